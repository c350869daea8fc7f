"""docs/design.md is up to date: its table covers every file, and files import only from rows below their own."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "yolo_lite"
FILES = sorted(PACKAGE.rglob("*.py"))
STARTS = (PACKAGE / "_startup.py", PACKAGE / "ultralytics_hooks" / "hooks.py")  # the only upward import, see design.md
FREE = ["__init__.py", "__main__.py", "_version.py"]  # not in the table


def table() -> dict[str, int]:
    """Return the rooms and their places in the table of docs/design.md, counted from the top."""
    lines = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "design.md").read_text("utf-8"), re.M)
    return {room: place for place, line in enumerate(lines) for room in re.findall(r"`([^`]+)`", line)}


def room(file: Path) -> str:
    path = file.relative_to(PACKAGE)
    return path.name if len(path.parts) == 1 else f"{path.parts[0]}/"


def imported(file: Path) -> Iterator[Path]:
    """Yield the files of the package that a file imports, those that functions import included; not for types only."""

    class Imports(ast.NodeVisitor):
        def __init__(self) -> None:
            self.names: list[str] = []

        def visit_If(self, node: ast.If) -> None:
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            self.names += [alias.name for alias in node.names]

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            self.names += [f"{node.module}.{alias.name}" for alias in node.names]

    visitor = Imports()
    visitor.visit(ast.parse(file.read_text("utf-8")))
    for name in visitor.names:
        parts = name.split(".")
        if parts[0] != "yolo_lite":
            continue
        while parts:
            path = ROOT.joinpath(*parts)
            found = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            if found.is_file():
                yield found
                break
            parts.pop()


def test_every_file_has_a_room_in_the_table():
    rooms = {room(file) for file in FILES} - set(FREE)
    assert rooms == set(table())


def test_imports_go_down_the_table_only():
    place = table()
    up = [
        f"{room(file)} ({file.name}) imports {room(other)} ({other.name})"
        for file in FILES
        for other in imported(file)
        if {room(file), room(other)}.isdisjoint(FREE) and room(file) != room(other) and (file, other) != STARTS
        if place[room(other)] < place[room(file)]
    ]
    assert not up


def test_no_circle_of_imports():
    arrows = {file: set(imported(file)) - {file, PACKAGE / "__init__.py"} for file in FILES}
    arrows[STARTS[0]].remove(STARTS[1])
    while leaves := [file for file, others in arrows.items() if not others]:
        arrows = {file: others.difference(leaves) for file, others in arrows.items() if others}
    assert not arrows, {file.name: [other.name for other in others] for file, others in arrows.items()}


ONE_KIND = {"backbones": "one file a family", "commands": "one file a command"}  # file names are self-explanatory
LISTED = sorted({file.parent for file in FILES} - {PACKAGE, *(PACKAGE / name for name in ONE_KIND)})


@pytest.mark.parametrize("package", LISTED, ids=lambda path: path.name)
def test_a_packages_docstring_lists_its_files(package):
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8")))
    assert {*re.findall(r"\w+\.py\b", text)} == {path.name for path in package.glob("*.py")} - {"__init__.py"}


def test_the_files_that_design_md_sends_to_are_there():
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|html\.j2))`", text))
    assert len(named) > 20
    assert not [name for name in named if not ((PACKAGE / name).is_file() or (ROOT / name).is_file())]
