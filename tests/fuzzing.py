"""Build random model YAMLs, valid or mutated, each in its own process with limited time and memory.

    python tests/fuzzing.py valid|changed FIRST LAST SECONDS

Prints a JSON object for each seed from FIRST up to but not including LAST, until SECONDS have passed.
"""

import contextlib
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

CPU, MEMORY = 5, 2**30  # time limit in seconds; memory limit in bytes, on top of a process that has imported torch

BASES = ["yolov5", "yolov8", "yolov10n", "yolo11", "yolo12", "yolo26"]
TASKS = ["detect"] * 4 + ["segment", "pose", "obb", "classify"]
TIMM = ["timm/lcnet_050", "timm/repvit_m0_9", "timm/resnet18", "timm/mobilevit_xxs", "timm/fasternet_t0"]
HOSTILE = [
    0, -1, 1, 7, 10**5, 10**9, 10**30, 1.5, -0.5, 1e300, float("nan"), float("inf"), None, True,
    "", "x", "nc", "n", "[3]", "9" * 30, "a" * 5000, "../..", "~x", "\0", "imagenet", "nn.ReLU()",
    [], [[]], [1, 2, 3], [-1] * 50, {}, {"a": 1}, ["nc"],
]  # fmt: skip
KEYS = [
    "nc", "scales", "backbone", "head", "activation", "backbone_width", "backbone_weights", "backbone_edge", "reg_max",
    "end2end", "kpt_shape", "ch", "alpha", "depth_multiple", "scale", "channels", "inplace", "x",
]  # fmt: skip


def spec(rng):
    """Return random options of `make`, and random numbers of classes and image channels."""
    from yolo_lite import list_backbones, options

    backbone = rng.choice([*list_backbones(), *TIMM])
    wanted = {
        "base": rng.choice(BASES),
        "backbone": backbone,
        "neck": rng.choice(options.NECKS),
        "head": rng.choice(options.HEADS),
        "task": rng.choice(TASKS),
        "edge": rng.random() < 0.2 and not backbone.startswith("timm/"),
    }
    if wanted["base"] not in ("yolov8", "yolo11", "yolo26"):
        wanted["task"] = "detect"
    if wanted["task"] == "classify":
        wanted["neck"] = wanted["head"] = "base"
    if not backbone.startswith("timm/"):
        wanted["width"] = rng.choice([0.25, 0.35, 0.5, 0.75, 1.0, 1.3, round(rng.uniform(0.1, 2), 2)])
    return wanted, rng.choice([1, 2, 3, 20, 80, 365, 1000]), rng.choice([1, 3, 3, 3, 4])


def valid(rng):
    """Return the text of a valid YAML and its image channels; options that `make` itself refuses are drawn again."""
    from yolo_lite import ConfigError
    from yolo_lite.compose.draft import Draft
    from yolo_lite.compose.recipe import Recipe

    while True:
        wanted, classes, channels = spec(rng)
        try:
            recipe = Recipe.of(wanted)
            recipe.check()
            draft = Draft.of(recipe)
        except ConfigError:
            continue
        widths = dict.fromkeys(draft.letters, recipe.width) if recipe.width else None
        return re.sub(r"^nc: \d+", f"nc: {classes}", draft.body(widths), count=1, flags=re.MULTILINE), channels


def changed(rng):
    """Return the bytes of a valid YAML with random mutations, and the image channels."""
    import yaml

    text, channels = valid(rng)
    d = yaml.safe_load(text)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError):  # the mutation does not apply
            rng.choice([_leaf, _leaf, _leaf, _leaf, _leaf, _key, _row, _module, _module])(rng, d)
    data = yaml.safe_dump(d, default_flow_style=None, sort_keys=False).encode()
    if rng.random() < 0.2:
        data = _bytes(rng, data)
    return data, rng.choice([channels] * 12 + [0, -3, 10**6, 512])


def _leaf(rng, d):
    rows = [row for section in ("backbone", "head") for row in d[section]]
    place = rng.choice([d, d["scales"], *rows, *(row[3] for row in rows if row[3])])
    key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    inner = place[key]
    if isinstance(inner, list) and inner and rng.random() < 0.5:
        place, key = inner, rng.randrange(len(inner))
    value = place[key]
    near = [value, value + 1, value - 1, 2 * value] if type(value) in (int, float) else []  # these are often valid
    place[key] = rng.choice(near if near and rng.random() < 0.8 else HOSTILE)


def _key(rng, d):
    key = rng.choice([*d, *KEYS])
    value = d.pop(key, None)
    if rng.random() < 0.7:
        d[key if rng.random() < 0.5 else key[:-1] or "y"] = rng.choice([value, *HOSTILE])


def _row(rng, d):
    rows = d[rng.choice(["backbone", "head"])]
    i, j = rng.randrange(len(rows)), rng.randrange(len(rows))
    how = rng.randrange(4)
    if how == 0:
        del rows[i]
    elif how == 1:
        rows.insert(i, list(rows[j]))
    elif how == 2:
        rows[i], rows[j] = rows[j], rows[i]
    else:
        rows[i] = rows[i] + [1] if rng.random() < 0.5 else rows[i][:-1]


def _module(rng, d):
    from torch import nn
    from ultralytics.nn import tasks

    from yolo_lite.discovery import specs

    names = rng.choice([sorted(specs()), sorted(vars(tasks)), [f"nn.{name}" for name in dir(nn)]])
    rng.choice(d[rng.choice(["backbone", "head"])])[2] = rng.choice(names)


def _bytes(rng, data):
    how, place = rng.randrange(5), rng.randrange(len(data))
    if how == 0:
        return data[:place]
    if how == 1:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if how == 2:
        return data.decode().encode(rng.choice(["utf-16", "utf-32", "utf-16-le"]))
    if how == 3:
        return data + b"x: " + b"[" * 2000
    return data[:place] + b"  - &a [*a]\n" + data[place:]


def state():
    """Return the global state that a refused model must not change."""
    import numpy
    import torch
    from ultralytics.nn.modules import Conv, Detect

    return (
        torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate(), dict(os.environ),
        os.getcwd(), list(sys.path), torch.get_default_dtype(), torch.is_grad_enabled(), torch.empty(0).device,
        repr(Conv.default_act), Detect.legacy, sorted(os.listdir()), len(sys.meta_path),
    )  # fmt: skip


def build(path, channels):
    """Build the model of a YAML as `YOLO` does; return the outcome."""
    from ultralytics.nn import tasks

    from yolo_lite import ConfigError
    from yolo_lite.ultralytics_hooks import internals, reading

    before = state()
    try:
        d = tasks.yaml_model_load(path)
        kind = internals.MODELS.get(tasks.guess_model_task(d), "DetectionModel")
        kind = "RTDETRDetectionModel" if d["head"][-1][2] == "RTDETRDecoder" else kind
        getattr(tasks, kind)(d, ch=channels, verbose=False)
        return {"outcome": "built"}
    except ConfigError as error:
        text, outcome = str(error), "refused"
        if len(text) > 2000 or "\n" in text:
            outcome = "refused at length"
    except Exception as error:
        text, outcome = f"{type(error).__name__}: {error}"[:500], "failed"
        with contextlib.suppress(ConfigError):
            if reading.load(path, internals.namespace()) is None:
                return {"outcome": "stock", "text": text}  # the mutated YAML is no longer one of yolo_lite
    if outcome == "refused" and state() != before:
        outcome = "refused, and something has changed"
    return {"outcome": outcome, "text": text}


def one(kind, seed, most):
    """Build the model of one seed in a forked process; return the outcome."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        with os.fdopen(read) as stream:
            text = stream.read()
        _, status, used = os.wait4(child, 0)
        found = json.loads(text) if text else {"outcome": f"died with {status}, {used.ru_utime:.1f} s"}
        return {"seed": seed, **found}
    try:
        rng = random.Random(f"{kind} {seed}")
        data, channels = {"valid": valid, "changed": changed}[kind](rng)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            letters = [each for each in "nnnsmlx" if re.search(rf"\b{each}: \[", str(data))]  # scales in the YAML
            path = Path(folder, f"yolov8{rng.choice(letters or ['n'])}-fuzz.yaml")
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
            for limit, size in most.items():
                resource.setrlimit(limit, (size, size))
            began = time.process_time()
            limit = int(began) + 1 + 3 * CPU  # kill only builds that hang; slow ones are measured
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            found = build(path, channels)
            found["seconds"] = round(time.process_time() - began, 2)
            if found["outcome"] not in ("built", "refused", "stock") or found["seconds"] > CPU:
                found["yaml"] = path.read_text("utf-8", "replace")
            os.chdir("/")
        os.write(write, json.dumps(found).encode())
    except BaseException as error:
        os.write(write, json.dumps({"outcome": f"{type(error).__name__}: {error}"[:500]}).encode())
    finally:
        os._exit(0)


def held(what):
    """Return a memory field of this process from /proc/self/status, such as VmData, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024


def main(kind, first, last, seconds):
    import torch

    torch.set_num_threads(1)
    most = {resource.RLIMIT_DATA: held("VmData") + MEMORY}  # allocated memory, on top of `import torch`
    import timm  # noqa: F401
    from ultralytics import YOLO

    YOLO("yolov8n-mnv3.yaml")  # runs all imports once for all forked processes
    # limit the address space, too, but measured from here: OpenCV and torchvision map half a gigabyte of libraries, and
    # with a limit relative to `import torch`, even the stock YOLOv8x would not fit
    most[resource.RLIMIT_AS] = held("VmSize") + MEMORY
    end = time.monotonic() + float(seconds)
    for seed in range(int(first), int(last)):
        if time.monotonic() > end:
            break
        print(json.dumps(one(kind, seed, most)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
