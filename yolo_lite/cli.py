"""The command `yolo-lite`."""

import sys

HELP = """yolo-lite: lightweight backbones for Ultralytics YOLO

Train, validate, predict and export with the stock command, for example

    yolo train model=yolov8n-mnv3.yaml data=shapes.yaml imgsz=160 epochs=20

Commands of our own:

    yolo-lite doctor    is everything in place? (exit status 0 or 1)
    yolo-lite version   print the version
    yolo-lite help      print this
"""


def main(arguments=None):
    """Run a command.

    Returns:
        (int): Exit status: 0 all is well, 1 it is not, 2 the command was not understood.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    name = (arguments[0] if arguments else "help").lstrip("-")
    if name not in COMMANDS or len(arguments) > 1:
        from yolo_lite._registry import suggest

        wrong = arguments[1] if name in COMMANDS else arguments[0]
        print(f"yolo-lite: unknown argument {wrong!r}{suggest(wrong, COMMANDS)}; see yolo-lite help", file=sys.stderr)
        return 2
    return COMMANDS[name]()


def _doctor():
    from yolo_lite import doctor

    return 0 if doctor.run() else 1


def _version():
    from yolo_lite import __version__

    print(__version__)
    return 0


def _help():
    print(HELP, end="")
    return 0


COMMANDS = {"doctor": _doctor, "version": _version, "help": _help, "h": _help}
