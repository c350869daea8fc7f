"""Command line `yolo-lite`, one file per command; each has `main(words)`, which returns the exit status.

Options are defined in `yolo_lite/options.py`; help.py generates the help pages from them.
"""

import importlib
import os
import sys
from collections.abc import Sequence

# Refuse `python -m yolo_lite.commands.make`: `sys.argv` is ["-m", ...] while Python locates the module to run. The
# second condition allows other modules run with -m to import this package.
if sys.argv[:1] == ["-m"] and any(word.startswith("yolo_lite.commands") for word in sys.orig_argv):
    sys.exit("yolo-lite: this module is not a command; run yolo-lite, or python -m yolo_lite")

STOCK_MODES = ("train", "val", "predict", "export", "track", "benchmark")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Command-line arguments after `yolo-lite`; None for those of this process.

    Returns:
        (int): Exit status: 0 success, 1 failure, 2 invalid command line, 130 interrupted.
    """
    from yolo_lite.errors import ConfigError, UsageError
    from yolo_lite.files import unwritable

    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except ConfigError as error:
        print(f"yolo-lite: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # no error in `yolo-lite list | head`
            print(f"yolo-lite: {unwritable(error)}", file=sys.stderr)
        _forget_output()
        return 1


def _run(arguments: Sequence[str]) -> int:
    from yolo_lite.commands.help import help_of, overview
    from yolo_lite.errors import UsageError, suggest
    from yolo_lite.options import COMMANDS

    name, *words = arguments or ["help"]
    name = name.lstrip("-")
    if name in ("h", "help"):
        name, *words = *words, "--help"
    if name == "--help":
        print(overview(), end="")
        return 0
    if name in STOCK_MODES:
        raise UsageError(f"{name} is a mode of the stock command: yolo {' '.join([name, *words])}")
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


def _forget_output() -> None:
    """Discard output that cannot be printed, since Python would try to flush it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(words: list[str]) -> int:
    from yolo_lite._version import __version__
    from yolo_lite.arguments import parse

    parse("version", words)
    print(__version__)
    return 0
