"""`yolo-lite bench`: how long models take in the runtimes that people deploy with, and how they compare.

Machines drift: the same model takes a fifth longer a minute later. So the models of one runtime run interleaved, one
image each and again, in an order that is shuffled each round, and it is the ratios within a round that are compared.
The first model runs twice, as two models: the ratio to itself shows what differences mean nothing.
"""

import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from yolo_lite.bench.export import INT8, check_runtimes, export, is_random, load, size_of
from yolo_lite.bench.measurement import CONTROL, Measurement, median_interval
from yolo_lite.bench.runtimes import RUNTIMES, has_bf16
from yolo_lite.errors import ConfigError, typed_line

DEFAULT_RUNTIMES = ("onnxruntime", "openvino", "ncnn")  # those of them that are installed


class _Entry(NamedTuple):
    """What a runtime opens."""

    model: object
    label: str
    precision: str
    path: Path


def measure(
    models,
    runtimes=("onnxruntime",),
    threads=(1,),
    imgsz=640,
    seconds=10,
    folder=None,
    data=None,
    say=None,
    keep=None,
):
    """Time models against each other, interleaved, one process for each runtime and number of threads.

    Args:
        models: A list of names, or names by label: YAMLs (random weights, which do not change the time), .pt, or
            exported files. All are compared with the first.
        runtimes: Names in `RUNTIMES`.
        threads: Numbers of threads.
        imgsz: Height and width of the image, pixels.
        seconds: How long each model runs in each process; at least 20 rounds.
        folder: Keeps the exports for the next time; None for a temporary one.
        data: A dataset's YAML: measure int8 too, calibrated with its training images.
        say: Called with a line of text whenever something happens, and with one that ends in `\\r` on the way.
        keep: Called with all measurements so far, after each process.

    Returns:
        (list[Measurement]): For each runtime and number of threads the models in order, at last the first one again.

    Raises:
        ConfigError: An unknown runtime, a missing package, or a model that cannot be read, before anything is
            exported; an export that fails; a model that the runtime cannot run.
    """
    say = say or (lambda text: None)
    named = dict(models) if hasattr(models, "keys") else _labels(models)
    runtimes, threads = list(runtimes), list(threads)
    if not named or not runtimes:
        raise ConfigError(f"there are no {'runtimes' if named else 'models'} to measure")
    _check_numbers(threads, imgsz, seconds)
    check_runtimes(runtimes, int8=bool(data))
    if data:
        from yolo_lite.bench.int8 import training_files

        training_files(data)
    loaded = [load(label, name, imgsz) for label, name in named.items()]
    for runtime in runtimes:
        _check_exported(loaded, runtime, imgsz)
    with contextlib.ExitStack() as stack:
        folder = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="yolo_lite_")))
        entries = {runtime: _entries(loaded, runtime, folder, imgsz, data, say) for runtime in runtimes}
        result = []
        for runtime in runtimes:
            for number in threads:
                say(f"{runtime}, {number} thread{'s' * (number > 1)}: {len(entries[runtime])} models, interleaved")
                rounds = _run(runtime, number, entries[runtime], seconds * len(entries[runtime]), imgsz, say)
                result += _measurements(runtime, number, entries[runtime], rounds)
                if keep:
                    keep(result)
    return result


def _labels(names):
    named = {}
    for name in map(str, names):
        label = name.removesuffix(".yaml")
        if label in named:
            raise ConfigError(f"models names {label!r} twice")
        named[label] = name
    return named


def _check_numbers(threads, imgsz, seconds):
    for name, values in (("threads", threads), ("imgsz", [imgsz])):
        for value in values or [None]:
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} has to be a whole number above 0, found {value!r}")
    if imgsz % 32:
        raise ConfigError(f"imgsz has to be a multiple of 32, found {imgsz}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigError(f"seconds has to be a finite number above 0, found {seconds!r}")


def _check_exported(models, runtime, imgsz):
    """Refuse exported files that a runtime cannot open, before anything else is exported."""
    files = [model for model in models if model.yolo is None]
    for model in files:
        if not model.path.name.endswith(RUNTIMES[runtime].suffixes):
            fitting = [name for name, each in RUNTIMES.items() if model.path.name.endswith(each.suffixes)]
            raise ConfigError(f"{model.path} does not run in {runtime}, but in {', '.join(fitting)}")
    if files:
        _run(runtime, 1, [_Entry(model, model.label, "as exported", model.path) for model in files], 0, imgsz)


def _entries(models, runtime, folder, imgsz, data, say):
    """Export the models; return what the runtime has to run, the first one twice."""
    entries = []
    for model in models:
        precisions = {"fp32": None, "int8": data} if data and runtime in INT8 else {"fp32": None}
        if model.yolo is None:
            precisions = {"as exported": None}
        for precision, calibration in precisions.items():
            if model.yolo is not None:
                say(f"{model.label}: export for {runtime}, {precision}")
            path = export(model, runtime, folder, imgsz, calibration)
            entries.append(_Entry(model, model.label, precision, path))
            if runtime == "openvino" and precision == "fp32" and has_bf16():
                entries.append(_Entry(model, model.label, "bf16", path))
    return [*entries, entries[0]._replace(label=entries[0].label + CONTROL)]


def _run(runtime, threads, entries, seconds, imgsz, say=None):
    """Run models in a process of their own; return the milliseconds of each, round by round."""
    job = {
        "runtime": runtime,
        "threads": threads,
        "imgsz": imgsz,
        "seconds": seconds,
        "models": [[str(entry.path.absolute()), entry.precision] for entry in entries],
    }
    root = str(Path(__file__).parent.parent.parent)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "yolo_lite.bench.timing", json.dumps(job)]
    rounds, opened, start = [], 0, time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        try:
            for line in process.stdout:
                if not line.startswith("{"):
                    continue  # a runtime says something
                answer = json.loads(line)
                if "shape" in answer:
                    _check_shape(entries[opened], answer["shape"], imgsz)
                    opened += 1
                else:
                    rounds.append(answer["times"])
                    if say:
                        say(f"  round {len(rounds)}, {time.monotonic() - start:.0f} of about {seconds:.0f} s\r")
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if status:
        where = entries[opened].path if opened < len(entries) else f"one of {len(entries)} models"
        reason = said[-1] if said and status > 0 else f"the process ended with {status}"
        raise ConfigError(f"{runtime} cannot run {where}: {' '.join(reason.split())[:300]}")
    return rounds


def _check_shape(entry, shape, imgsz):
    if entry.model.yolo is None and shape[-2:] != [imgsz, imgsz]:
        raise ConfigError(f"{entry.path} takes images of {shape[-2:]}, imgsz is {imgsz}")
    if entry.model.yolo is None and shape[0] != 1:
        raise ConfigError(f"{entry.path} takes {shape[0]} images at a time; export it with batch=1")


def _measurements(runtime, threads, entries, rounds):
    columns = list(zip(*rounds, strict=True))
    result = []
    for entry, times in zip(entries, columns, strict=True):
        ratios = [time / first for time, first in zip(times, columns[0], strict=True)]
        result.append(
            Measurement(
                entry.label,
                runtime,
                threads,
                entry.precision,
                statistics.median(times),
                statistics.quantiles(times, n=10)[-1],
                statistics.median(ratios),
                *median_interval(ratios),
                entry.model.parameters,
                entry.model.gflops,
                size_of(entry.path),
            )
        )
    return result


def environment(runtimes):
    """Return what results depend on: the CPU, and versions of what took part."""
    from ultralytics.utils.torch_utils import get_cpu_info

    packages = ["ultralytics", "torch", *(RUNTIMES[name].package.replace("_", "-") for name in runtimes), "onnxslim"]
    versions = {}
    for package in dict.fromkeys(packages):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "CPU": get_cpu_info().strip(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        **versions,
    }


def run(models, runtimes=None, imgsz="640", threads="1", seconds="10", int8="False", data=None, out=None):
    """Do what `yolo-lite bench` does; arguments are the words of the command line.

    Raises:
        ConfigError: As `measure`; int8 without data; or a folder that cannot be written.
    """
    from yolo_lite.bench import report
    from yolo_lite.bench.export import missing

    if int8.lower() not in ("true", "false"):
        raise ConfigError(f"int8 has to be True or False, found {int8!r}")
    if (int8.lower() == "true") != bool(data):
        raise ConfigError("int8=True and data= belong together: data is the dataset whose images calibrate int8")
    skipped = []
    if runtimes is None:
        lacking = {name: missing(name, bool(data)) for name in DEFAULT_RUNTIMES}
        skipped = [f"{name} is left out: pip install {' '.join(lack)}" for name, lack in lacking.items() if lack]
        runtimes = ",".join(name for name, lack in lacking.items() if not lack)
    names, runtimes = _words(models), _words(runtimes)
    out = Path(out) if out else _new_folder()
    place = next(each for each in (out, *out.parents) if each.exists())
    if not place.is_dir():
        raise ConfigError(f"out={out}: {place} is a file; needs a folder")
    if not os.access(place, os.W_OK):
        raise ConfigError(f"out={out}: {place} cannot be written")
    if data:
        skipped += [f"{name} is measured without int8" for name in runtimes if name in RUNTIMES and name not in INT8]
    say(*skipped)

    def keep(measurements):
        notes = report.remarks(measurements, [name for name in names if is_random(name)], skipped)
        settings = {"image size": f"{imgsz} px", "seconds a model": seconds, **({"int8 data": data} if data else {})}
        report.write_all(out, measurements, {**settings, **environment(runtimes)}, notes)

    try:
        measured = measure(
            names,
            runtimes,
            [_number(word) for word in _words(threads)],
            _number(imgsz),
            _number(seconds),
            out / "exports",
            data,
            say,
            keep,
        )
    except OSError as error:
        raise ConfigError(f"out={out} cannot be written: {typed_line(error)}") from None
    print((out / "bench.md").read_text("utf-8"))
    print(f"results saved to {out}")
    return measured


def _words(text):
    return [word for word in text.split(",") if word]


def _number(text):
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _new_folder():
    """The first of runs/bench, runs/bench2, ... that is not there, as Ultralytics names its runs."""
    numbers = iter(range(2, sys.maxsize))
    folder = Path("runs/bench")
    while folder.exists():
        folder = Path(f"runs/bench{next(numbers)}")
    return folder


def say(*lines):
    """Print lines; one that ends in `\\r` only where it will be overwritten."""
    for line in lines:
        if not line.endswith("\r"):
            print(line, flush=True)
        elif sys.stdout.isatty():
            print(f"{line:<60}", end="\r", flush=True)
