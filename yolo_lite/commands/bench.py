"""`yolo-lite bench`: time models in the runtimes that people deploy with."""

import sys

from yolo_lite.arguments import checked, settings
from yolo_lite.bench import run


def main(words: list[str]) -> int:
    """Measure what the words of the command line, or the YAML file among them, say."""
    values = checked("bench", settings("bench", words))
    try:
        run.run(**values)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; what was measured and exported so far is kept", file=sys.stderr)
        return 130
    return 0
