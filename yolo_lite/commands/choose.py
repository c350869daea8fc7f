"""`yolo-lite choose`: search for the best lightweight detector for a dataset and a device, within a latency budget."""

import sys


def main(words: list[str]) -> int:
    """Run the search with the settings from the command line and an optional YAML file."""
    from yolo_lite.choose import choose
    from yolo_lite.compare.settings import parse

    file, settings = parse(words, "choose")
    try:
        outcome = choose(file, **settings)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0
