"""`yolo-lite compare`: train and compare models, or rewrite the report of a comparison."""

import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """Run the comparison with the given settings (command line, YAML file); for a folder, only rewrite its report."""
    from yolo_lite.compare import compare, write_report
    from yolo_lite.compare.report.data_files import headline
    from yolo_lite.compare.settings import parse

    if len(words) == 1 and Path(words[0]).is_dir():
        print(headline(write_report(words[0], lambda text: print(text, file=sys.stderr, flush=True))))
        return 0
    file, settings = parse(words)
    try:
        outcome = compare(file, **settings)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0
