"""`yolo-lite choose`: search for the best light detector for a dataset, on a device, within a budget."""

import sys


def main(words: list[str]) -> int:
    """Search for what the words of the command line, or the YAML file among them, say."""
    from yolo_lite.choose import choose
    from yolo_lite.compare.settings import parse

    file, settings = parse(words, "choose")
    try:
        outcome = choose(file, **settings)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0
