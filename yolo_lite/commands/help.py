"""Generate the help pages, and the option tables of the documentation, from the option definitions."""

import textwrap
from typing import Any

from yolo_lite.options import COMMANDS, REQUIRED, Option


def overview() -> str:
    """Return the output of `yolo-lite help`: all commands with their summaries."""
    lines = ["yolo-lite: lightweight backbones for Ultralytics YOLO", ""]
    lines += ["Train, validate, predict and export with the stock command, for example", "", f"    {STOCK}", ""]
    lines += ["yolo_lite's own commands; yolo-lite COMMAND --help shows their options:", ""]
    width = max(map(len, COMMANDS))
    for name, command in COMMANDS.items():
        lines.append(f"    yolo-lite {name.ljust(width)}  {command.summary}")
    return "\n".join([*lines, f"    yolo-lite {'help'.ljust(width)}  print this", "", f"Documentation: {DOCS}", ""])


DOCS = "https://github.com/yolo-lite/yolo-lite/tree/main/docs"
TRAINS = "Training arguments of Ultralytics ({}) are passed on, except those that the command sets itself, such as {}."
STOCK = "yolo train model=yolov8n-mnv3.yaml data=shapes.yaml imgsz=128 epochs=20 batch=16 nbs=16"


def help_of(name: str) -> str:
    """Return the help page of a command."""
    command = COMMANDS[name]
    lines = [f"yolo-lite {name} {command.usage}".rstrip(), "", command.summary, ""]
    width = max((len(f"{each.name}={each.example}") for each in command.options), default=0)
    if command.options:
        lines += ["Options, each with an example value:", ""]
    for option in command.options:
        default = _default(option)
        text = f"{option.line} ({default})" if default else option.line
        first = f"  {f'{option.name}={option.example}'.ljust(width)}  "
        lines += textwrap.wrap(text, 120, initial_indent=first, subsequent_indent=" " * len(first))
    if command.trains:
        lines += ["", *textwrap.wrap(TRAINS.format("epochs=, imgsz=, batch=, ...", "seed= and resume="), 120)]
    return "\n".join([*lines, *[""] * bool(command.options), f"Example: {command.example}", ""])


def table_of(name: str) -> list[str]:
    """Return a command's options as the lines of a Markdown table, for the documentation."""
    rows = ["| option | default | what it is |", "|---|---|---|"]
    for option in COMMANDS[name].options:
        default = _default(option).removeprefix("default ")
        cell = f" `{default}` " if default not in ("", "required") else f" {default} ".replace("  ", " ")
        rows.append(f"| `{option.name}={option.example}` |{cell}| {option.line} |")
    return rows


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return "required"
    return "" if option.default in (None, "") else f"default {_written(option.default)}"


def _written(value: Any) -> str:
    """Return a value as written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
