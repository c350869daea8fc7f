"""`yolo-lite compare`: train and compare models, or write a comparison's report again."""

import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Compare what the words of the command line, or the YAML file among them, say; of a folder write the report."""
    from yolo_lite.compare import compare, write_report
    from yolo_lite.compare.report.tables import headline
    from yolo_lite.compare.settings import parse

    if len(words) == 1 and Path(words[0]).is_dir():
        print(headline(write_report(words[0])))
        return 0
    file, settings = parse(words)
    try:
        outcome = compare(file, **settings)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0
