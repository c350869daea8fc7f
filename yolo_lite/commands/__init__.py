"""The command `yolo-lite`."""

import sys

HELP = """yolo-lite: lightweight backbones for Ultralytics YOLO

Train, validate, predict and export with the stock command, for example

    yolo train model=yolov8n-mnv3.yaml data=shapes.yaml imgsz=128 epochs=20 batch=16 nbs=16

Commands of our own:

    yolo-lite list [WORD ...]      the backbones: cost, channels, published weights; only those with all WORDs
    yolo-lite list timm=PATTERN    timm's networks of such names, for TimmBackbone
    yolo-lite info NAME            one backbone, ours or timm's, or one model, like yolov8n-mnv3.yaml or best.pt:
                                   cost, weights, and what edge compilers dislike in it
    yolo-lite make host=yolov8 backbone=ghostnet_100 [neck=aspp] [head=light] [task=segment] [width=0.5] [scale=n]
                   [max_gflops=3.0] [max_params=1.5] [imgsz=640] [weights=imagenet]
                   [edge=True] [count=False] [note="for the header"] [out=my.yaml] [exist_ok=True]
                                   a YAML for any host, backbone, neck (aspp, lraspp, extradw, slim, light) and head
                                   (light, slim); with a budget, of the largest width that fits;
                                   with edge=True ReLU6 and no squeeze-excite, for int8 and edge compilers
    yolo-lite compare data=... models=A,B baseline=A seeds=0,1,2 epochs=50
                                   train models alike and report which one to use; takes every training argument
                                   of Ultralytics, or a YAML file with the same settings: yolo-lite compare my.yaml
    yolo-lite compare FOLDER       write a comparison's report again
    yolo-lite bench models=yolov8n,yolov8n-mnv3,best.pt [runtimes=onnxruntime,openvino,ncnn] [imgsz=640] [threads=1,2]
                    [seconds=10] [int8=True data=my.yaml] [out=runs/bench]
                                   how long models take, run interleaved: tables, CSV and a plot
    yolo-lite doctor               is everything in place? (exit status 0 or 1)
    yolo-lite version              print the version
    yolo-lite help                 print this
"""


class UsageError(Exception):
    """A command line that cannot be understood."""


def main(arguments=None):
    """Run a command.

    Returns:
        (int): Exit status: 0 all is well, 1 it is not, 2 the command was not understood.
    """
    from yolo_lite.errors import ConfigError, suggest

    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["help"]
    try:
        command = COMMANDS.get(name.lstrip("-"))
        if command is None:
            raise UsageError(f"unknown command {name!r}{suggest(name, COMMANDS)}; see yolo-lite help")
        return _help(rest) if {"--help", "-h"} & set(rest) else command(rest)
    except UsageError as error:
        print(f"yolo-lite: {error}", file=sys.stderr)
        return 2
    except ConfigError as error:
        print(f"yolo-lite: {error}", file=sys.stderr)
        return 1


def _none(name, rest):
    if rest:
        raise UsageError(f"yolo-lite {name} takes no arguments, found {' '.join(rest)}; see yolo-lite help")


def _doctor(rest):
    from yolo_lite.commands import doctor

    _none("doctor", rest)
    return 0 if doctor.run() else 1


def _version(rest):
    from yolo_lite._version import __version__

    _none("version", rest)
    print(__version__)
    return 0


def _help(rest):
    print(HELP, end="")
    return 0


def _list(rest):
    from yolo_lite.commands import list as listing
    from yolo_lite.errors import suggest

    keys = dict(word.split("=", 1) for word in rest if "=" in word)
    wrong = [key for key in keys if key != "timm"]
    if wrong:
        raise UsageError(f"yolo-lite list has no {wrong[0]}={suggest(wrong[0], ['timm'])}; see yolo-lite help")
    listing.show_list([word.lower() for word in rest if "=" not in word], keys.get("timm"))
    return 0


def _info(rest):
    from yolo_lite.commands import info

    if len(rest) != 1:
        raise UsageError(f"yolo-lite info takes one name, found {len(rest)}; see yolo-lite help")
    info.show_info(rest[0])
    return 0


def _compare(rest):
    from pathlib import Path

    from yolo_lite.compare import compare, write_report
    from yolo_lite.compare.settings import parse
    from yolo_lite.compare.report.tables import headline

    if len(rest) == 1 and Path(rest[0]).is_dir():
        print(headline(write_report(rest[0])))
        return 0
    file, settings = parse(rest)
    try:
        outcome = compare(file, **settings)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0


def _make(rest):
    import inspect

    from yolo_lite.compose import make

    keys = _keys("make", rest, [key for key in inspect.signature(make.make).parameters if key != "keys"])
    if keys.get("count", "").lower() != "false":
        print("counting what it costs, some seconds for each scale; count=False leaves that out", file=sys.stderr)
    text = make.make(**{key: _value(key, value) for key, value in keys.items()})
    print(keys.get("out", text.rstrip()))
    return 0


FLAGS = ("exist_ok", "count", "edge")  # of make


def _value(key, text):
    """Turn a word of the command line into what `graft.make` takes."""
    from yolo_lite.errors import ConfigError

    numbers = {"width": float, "max_gflops": float, "max_params": float, "imgsz": int}
    try:
        if key == "width" and ":" in text:
            pairs = (pair.partition(":") for pair in text.strip("{}").split(","))
            return {letter.strip(): float(alpha) for letter, _, alpha in pairs}
        if key in FLAGS:
            return {"true": True, "false": False}[text.lower()]
        return numbers.get(key, str)(text)
    except (KeyError, ValueError):
        wanted = "True or False" if key in FLAGS else "a number"
        wanted += " or one for each scale, like n:0.5,s:1.0" * (key == "width")
        raise ConfigError(f"{key} has to be {wanted}, found {text!r}") from None


def _bench(rest):
    from yolo_lite.bench import run

    keys = _keys("bench", rest, ("models", "runtimes", "imgsz", "threads", "seconds", "int8", "data", "out"))
    if "models" not in keys:
        raise UsageError("yolo-lite bench needs models=yolov8n,my.pt,...; see yolo-lite help")
    try:
        run.run(**keys)
    except KeyboardInterrupt:
        print("\nyolo-lite: stopped; what was measured and exported so far is kept", file=sys.stderr)
        return 130
    return 0


def _keys(command, words, known):
    """Return the key=value words of a command."""
    from yolo_lite.errors import suggest

    keys = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"yolo-lite {command} takes key=value, found {word!r}; see yolo-lite help")
        if key not in known:
            raise UsageError(f"yolo-lite {command} has no {key}={suggest(key, known)}; see yolo-lite help")
        if key in keys:
            raise UsageError(f"yolo-lite {command} has {key}= twice; see yolo-lite help")
        keys[key] = value
    return keys


COMMANDS = {
    "make": _make,
    "bench": _bench,
    "list": _list,
    "info": _info,
    "compare": _compare,
    "doctor": _doctor,
    "version": _version,
    "help": _help,
    "h": _help,
}
