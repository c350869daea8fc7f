"""`yolo-lite bench`: measure the latency of models in deployment runtimes."""

import sys

from yolo_lite.arguments import checked, settings
from yolo_lite.bench import run


def main(words: list[str]) -> int:
    """Run the measurement with the settings from the command line and an optional YAML file."""
    values = checked("bench", settings("bench", words))
    try:
        run.run(**values)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; what was measured and exported so far is kept", file=sys.stderr)
        return 130
    return 0
