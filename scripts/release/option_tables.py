"""The pages' tables of options, from the one table of all options.

python scripts/release/option_tables.py           write them
python scripts/release/option_tables.py --check   exit status 1 where a page has another one
"""

import sys
from pathlib import Path

from yolo_lite.commands.help import table_of
from yolo_lite.files import between, write

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {
    "make": DOCS / "compose.md",
    "compare": DOCS / "compare.md",
    "bench": DOCS / "deploy.md",
    "transfer": DOCS / "transfer.md",
    "choose": DOCS / "choose.md",
}


def pages() -> dict[Path, str]:
    """Return what the pages should be."""
    return {
        page: between(page.read_text("utf-8"), f"options {command}", table_of(command))
        for command, page in PAGES.items()
    }


def check() -> list[str]:
    """Return the pages that are not so."""
    return [f"{page.name} has another table" for page, text in pages().items() if page.read_text("utf-8") != text]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        found = check()
        print(*found or ["all tables are as they should be"], sep="\n")
        sys.exit(bool(found))
    for page, text in pages().items():
        write(page, text)
