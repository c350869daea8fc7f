"""Generate the option tables of the documentation pages from the option definitions in `yolo_lite/options.py`.

python scripts/release/option_tables.py           write the tables
python scripts/release/option_tables.py --check   exit with status 1 if a page's table is out of date
"""

import sys
from pathlib import Path

from yolo_lite.commands.help import TRAINS, table_of
from yolo_lite.files import between, write
from yolo_lite.options import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {
    "make": DOCS / "compose.md",
    "compare": DOCS / "compare.md",
    "bench": DOCS / "deploy.md",
    "transfer": DOCS / "transfer.md",
    "choose": DOCS / "choose.md",
}


def pages() -> dict[Path, str]:
    """Return the up-to-date text of each page, by path."""
    found = {
        page: between(page.read_text("utf-8"), f"options {command}", table_of(command))
        for command, page in PAGES.items()
    }
    whole = DOCS / "commands.md"
    return {**found, whole: between(whole.read_text("utf-8"), "commands", commands())}


def commands() -> list[str]:
    """Return the generated lines of docs/commands.md: every command with its options."""
    lines: list[str] = []
    for name, command in COMMANDS.items():
        lines += [f"## {name}", "", f"{command.summary[:1].upper()}{command.summary[1:]}.", ""]
        lines += ["```text", f"yolo-lite {name} {command.usage}".rstrip(), "", f"{command.example}", "```", ""]
        if command.options:
            lines += [*table_of(name), ""]
        if command.trains:
            lines += [TRAINS.format("`epochs=`, `imgsz=`, `batch=`, ...", "`seed=` and `resume=`"), ""]
    return lines[:-1]


def check() -> list[str]:
    """Return a message for each page whose text is out of date."""
    return [f"{page.name} has another table" for page, text in pages().items() if page.read_text("utf-8") != text]


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        found = check()
        print(*found or ["all tables are as they should be"], sep="\n")
        sys.exit(bool(found))
    for page, text in pages().items():
        write(page, text)
