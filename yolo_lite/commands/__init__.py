"""The command `yolo-lite`, one file a command; each has `main(words)`, which returns the exit status.

Options stand in `yolo_lite/options.py`, what help says of them is made by help.py.
"""

import importlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words behind `yolo-lite`; None takes those of this process.

    Returns:
        (int): Exit status: 0 all is well, 1 it is not, 2 the command was not understood, 130 it was interrupted.
    """
    from yolo_lite.commands.help import help_of, overview
    from yolo_lite.errors import ConfigError, UsageError, suggest
    from yolo_lite.options import COMMANDS

    name, *words = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    name = name.lstrip("-")
    if name in ("h", "help"):
        name, *words = *words, "--help"
    try:
        if name == "--help":
            print(overview(), end="")
            return 0
        if name not in COMMANDS:
            raise UsageError(f"unknown command {name!r}{suggest(name, [*COMMANDS, 'help'])}; see yolo-lite help")
        if {"--help", "-h"} & {*words}:
            print(help_of(name), end="")
            return 0
        if name == "version":
            return _version(words)
        module = importlib.import_module(f"yolo_lite.commands.{name}")
        status: int = module.main(words)
        return status
    except ConfigError as error:
        print(f"yolo-lite: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _version(words: list[str]) -> int:
    from yolo_lite._version import __version__
    from yolo_lite.options import parse

    parse("version", words)
    print(__version__)
    return 0
