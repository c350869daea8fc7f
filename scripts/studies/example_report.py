"""Create an example report of `yolo-lite compare` on the generated dataset: docs/example-report/report.html.

    python scripts/studies/example_report.py [folder=runs/example-report]

Trains the comparison in docs/example-report/compare.yaml, about 15 minutes on two cores, and resumes if interrupted.
The figures have no meaning; for other datasets docs shows figures only, since their photographs may not be committed.
"""

import sys
from pathlib import Path

from yolo_lite.compare import compare
from yolo_lite.errors import ConfigError
from yolo_lite.files import write

KEPT = Path(__file__).resolve().parents[2] / "docs" / "example-report"
LARGEST = 1_000_000  # maximum size of the page in bytes


def main(folder: str = "runs/example-report") -> int:
    """Train the models, write the report, and copy the page to docs; return the exit status."""
    made = Path(folder).absolute()
    outcome = compare(KEPT / "compare.yaml", project=str(made.parent), name=made.name)
    page = (made / "report.html").read_bytes()
    if outcome.failed or len(page) > LARGEST:
        print(f"not kept: {len(outcome.failed)} runs failed; {len(page)} bytes, needed at most {LARGEST}")
        return 1
    write(KEPT / "report.html", page)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(**dict(word.split("=", 1) for word in sys.argv[1:])))
    except ConfigError as error:
        sys.exit(f"example_report: {error}")
