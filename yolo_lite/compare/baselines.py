"""Fair rivals: the stock host shrunk in width until it costs the same as a model with another backbone.

A backbone that loses to its rival has no reason to exist. Channels of the rival are multiples of 16: other widths waste
the processor's registers and would make it an easy opponent.
"""

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from yolo_lite import models as zoo
from yolo_lite.errors import ConfigError
from yolo_lite.files import write
from yolo_lite.output import errors_only

STEP = 16  # channels
TIMED, SECONDS = 10, 3  # shrunk hosts that are timed to find the one of equal latency, seconds for each


class Rival(NamedTuple):
    """A stock host, shrunk."""

    model: zoo.Model
    d: dict  # its YAML dictionary
    matched: dict  # by label of the models that it was shrunk for: what was measured, where it was latency


def find(match, models, data, imgsz, folder, old, how):
    """Find the rival of every model that has a stock host.

    Args:
        match: What is to be equal, "gflops" or "latency".
        models: The models that get one, each with the name of the stock model that is shrunk.
        data: The `Dataset`.
        imgsz: Height and width of the images, pixels.
        folder: The comparison's folder; the rivals' YAML files will stand in its `models`.
        old: The record of a comparison that goes on, whose rivals stay what they are; None for a new one.
        how: Settings `runtimes` and `threads`; the first of each is what latency is measured with.

    Returns:
        (list[Rival]): One that serves several models stands there once.

    Raises:
        ConfigError: A model has no stock host, costs more than it, or had another one when the comparison began.
    """
    found = {}
    for model, host in models:
        if host is None:
            raise ConfigError(
                f"match={match}: {model.label} has no stock host in its name, as yolov8n-mnv3 has yolov8n; name one "
                f"with rivals={model.label}:yolov8n"
            )
        if not re.fullmatch(r"yolov?\d+[nsmlx]", host):
            raise ConfigError(f"rivals: {model.label}:{host} needs a stock model with its scale letter, like yolov8n")
        for label, known in (old or {"models": {}})["models"].items():
            if model.label in known["rival_of"]:
                if label.rpartition("-w")[0] != host:
                    raise ConfigError(
                        f"rivals={model.label}:{host}: {folder} holds another comparison, whose rival of it is "
                        f"{label}; choose another name="
                    )
                name, d, cost = label, old["rivals"][label], old.get("matched", {}).get(label, {}).get(model.label)
                break
        else:
            width, d, cost = EQUAL[match](host, model, len(data.record["classes"]), imgsz, how)
            name = f"{host}-w{width:g}"
        found.setdefault(name, (d, {}))[1][model.label] = cost
    return [
        Rival(_model(name, d, matched, data, imgsz, folder), d, {key: cost for key, cost in matched.items() if cost})
        for name, (d, matched) in found.items()
    ]


def _model(name, d, rivals, data, imgsz, folder):
    from ultralytics.nn.tasks import DetectionModel

    host = name.rpartition("-w")[0]
    with errors_only():
        model = DetectionModel(_named(d, host), nc=len(data.record["classes"]), verbose=False)
    given = f"models/{name}.yaml"
    return zoo.Model(
        name, str(folder / given), given, zoo.digest_of(d), *zoo.measure(model, imgsz), rival_of=tuple(rivals)
    )


def _named(d, host):
    return {**d, "scale": host[-1], "yaml_file": f"{host}.yaml"}


def host_of(name):
    """Return the stock model that a swapped one is derived from, `yolov8n` of `yolov8n-mnv3`; None if there is none."""
    match = re.match(r"(yolov?\d+[nsmlx])-", Path(name).name)
    return match and match[1]


def shrunk(host, width):
    """Return a stock model's YAML dictionary with its channels at `width` times what they are, in whole steps of 16."""
    from ultralytics.nn.tasks import yaml_model_load

    d = yaml_model_load(f"{host}.yaml")
    depth, scale, most = d["scales"][d["scale"]]
    for row in d["backbone"] + d["head"]:
        if row[3] and isinstance(row[3][0], int) and row[3][0] >= STEP:  # of the others, 1 is Concat's axis
            row[3] = [max(STEP, round(min(row[3][0], most) * scale * width / STEP) * STEP), *row[3][1:]]
    letter = d.pop("scale")
    d.pop("yaml_file")
    return {**d, "scales": {letter: [depth, 1.0, 1 << 16]}}


def candidates(host):
    """Return the shrunk hosts that differ from each other, widest first, as (width, YAML dictionary)."""
    found = []
    for width in (number / 200 for number in range(200, 19, -1)):
        d = shrunk(host, width)
        if not found or d != found[-1][1]:
            found.append((width, d))
    return found


def write_yaml(name, d, folder):
    """Write a rival as a YAML file of its own; return its path."""
    import yaml

    host, _, width = name.rpartition("-w")
    text = f"# {host} at {width} of its width, channels in multiples of {STEP}\n"
    for key, value in d.items():
        if key in ("backbone", "head"):
            text += f"{key}:\n" + "".join(f"  - {json.dumps(row)}\n" for row in value)  # JSON is YAML, a row a line
        else:
            text += yaml.safe_dump({key: value}, default_flow_style=None if isinstance(value, dict) else False)
    path = folder / f"{name}.yaml"
    write(path, text)
    return path


def measured(host, d, classes, imgsz):
    """Return the GFLOPs of a shrunk host."""
    from ultralytics.nn.tasks import DetectionModel

    from yolo_lite.cost import cost

    with errors_only():
        return cost(DetectionModel(_named(d, host), nc=classes, verbose=False), imgsz)[1]


def equal_gflops(host, model, classes, imgsz, how):
    """Find the shrunk host whose GFLOPs are nearest to a model's, by bisection over its widths.

    Returns:
        (float, dict, None): Its width relative to the host's, and its YAML dictionary.

    Raises:
        ConfigError: The host itself costs less.
    """
    choices = candidates(host)

    @functools.cache
    def cost(number):
        return measured(host, choices[number][1], classes, imgsz)

    if cost(0) < model.gflops:
        raise ConfigError(
            f"match=gflops: {host} costs {cost(0):.2f} GFLOPs, less than {model.label} with {model.gflops:.2f}; "
            "it is the rival already, leave that model out of rivals="
        )
    low, high = 0, len(choices) - 1  # costs fall from low to high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) >= model.gflops else (low, middle)
    return *choices[min((low, high), key=lambda number: abs(cost(number) - model.gflops))], None


def equal_latency(host, model, classes, imgsz, how):
    """Find the shrunk host whose latency is nearest to a model's: some of all widths, then all those near the best.

    Returns:
        (float, dict, dict): Its width relative to the host's, its YAML dictionary, and what was measured: `ratio`, its
            time over the model's, with the 95 % interval `low` and `high`, `runtime`, `threads` and `environment`.

    Raises:
        ConfigError: The host itself is faster.
    """
    choices = candidates(host)
    coarse = sorted({round(i * (len(choices) - 1) / TIMED) for i in range(TIMED + 1)})
    found = _timed(host, [choices[number] for number in coarse], model, classes, imgsz, how)
    if found[0]["ratio"] < 1:
        raise ConfigError(
            f"match=latency: {host} takes {found[0]['ratio']:.2f} of the time of {model.label}; it is the rival "
            "already, leave that model out of rivals="
        )
    best = _nearest(found)
    near = range(coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)] + 1)
    found = _timed(host, [choices[number] for number in near], model, classes, imgsz, how)
    best = _nearest(found)
    return *choices[near[best]], found[best]


def _timed(host, choices, model, classes, imgsz, how):
    """Time shrunk hosts and a model, interleaved; return what was measured of each host."""
    from yolo_lite.compare.latency import latency, runtimes_of

    how = {"runtimes": runtimes_of(how)[:1], "threads": how["threads"][:1]}
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as folder:
        files = [str(write_yaml(f"{host}-w{width:g}", d, Path(folder))) for width, d in choices]
        models = [model, *(zoo.Model(Path(file).stem, file, file, "", 0, 0.0, 0) for file in files)]
        found = latency(models, classes, imgsz, how, seconds=SECONDS)
    timed = (row for row in found["measurements"] if row["precision"] == "fp32" and not row["control"])
    rows = {row["model"]: row for row in timed}
    return [
        {key: rows[each.label][key] for key in ("ratio", "low", "high", "runtime", "threads")}
        | {"environment": found["environment"]}
        for each in models[1:]
    ]


def _nearest(found):
    return min(range(len(found)), key=lambda number: abs(found[number]["ratio"] - 1))


EQUAL = {"gflops": equal_gflops, "latency": equal_latency}
