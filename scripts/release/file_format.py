"""Compare the checkpoint format with a committed reference, so that it never changes by accident.

A checkpoint pickles modules by the import paths of their classes, with attributes and tensors by name, and stores the
model's YAML, whose rows name classes and their arguments. `tests/file_format/format.json` records all names that belong
to yolo_lite; those of Ultralytics and timm are left out.

    rows        YAML name -> arguments of the row, its class, and names and shapes of the tensors that it builds
    backbones   native backbone at width 0.25 -> number of tensors, digest of their names and shapes
    attributes  yolo_lite class in a checkpoint -> names of its attributes, submodules and tensors
    globals     all yolo_lite names in a checkpoint's pickle
    packages    packages of all other names in a checkpoint's pickle
    record      what the stored YAML records about loaded weights

    python scripts/release/file_format.py              # compare the code with the list; exit status 1 if it differs
    python scripts/release/file_format.py write=True   # write it anew, after additions

Any difference other than an addition breaks the checkpoints of earlier releases.
"""

import copy
import hashlib
import io
import json
import pickle
import pickletools
import re
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import nn
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import yaml_model_load

from yolo_lite import create_backbone, list_backbones
from yolo_lite.blocks import Repeat
from yolo_lite.discovery import specs
from yolo_lite.losses import Remembering, SIoULoss, VarifocalLoss
from yolo_lite.registry import Scale, arguments
from yolo_lite.ultralytics_hooks.checkpoints import OURS
from yolo_lite.ultralytics_hooks.configs import configs
from yolo_lite_backbones import Distribution

LIST = Path(__file__).parents[2] / "tests" / "file_format" / "format.json"
ROWS = {  # YAML name -> arguments, for 16 input channels
    "ASPP": [16],
    "LRASPP": [16],
    "C3k2ExtraDW": [16],
    "ExtraDWFusion": [16],
    "SqueezeExcite": [0.5],
    "InvertedResidual": [16, 2, 3, 1, 0.25],
    "UniversalInvertedBottleneck": [16, 2, 5, 3, 1],
    "GhostModule": [16],
    "ShuffleUnitV2": [16],
    "MobileMQA": [2, 8, 2],
}
TASKS = {
    "Detect": [2],
    "Segment": [2, 4, 8],
    "Segment26": [2, 4, 8],
    "Pose": [2, [2, 3]],
    "Pose26": [2, [2, 3]],
    "OBB": [2, 1],
    "OBB26": [2, 1],
}
ROWS |= {kind + task: given for kind in ("Light", "Slim") for task, given in TASKS.items()}
STAGES = {  # YAML name -> variant, and the level whose tensors are listed
    "CSPLiteStage": ["csplite_100", 2],
    "EfficientNetStage": ["efficientnet_b0", 2],
    "GhostNetStage": ["ghostnet_100", 3],
    "MnasNetStage": ["semnasnet_100", 3],
    "MobileNetV1Stage": ["mobilenetv1_100", 2],
    "MobileNetV2Stage": ["mobilenetv2_100", 2],
    "MobileNetV3Stage": ["mobilenetv3_large_100", 3],
    "MobileNetV4Stage": ["mobilenetv4_hybrid_medium", 4],
    "ShuffleNetV1Stage": ["shufflenet_v1_g3", 3],
    "ShuffleNetV2Stage": ["shufflenet_v2_x0_5", 3],
    "UniRepLKNetStage": ["unireplknet_a", 3],
}
UNLISTED = "no arguments in file_format.py"  # list entry of a module that is in none of ROWS, TASKS and STAGES
SCALE = Scale(backbone_width=0.25, reg_max=4, end2end=True)
OF_HEADS = re.compile(r"(one2one_)?cv[234]$|dfl$")  # what our heads replace; the rest of a head is Ultralytics'


def main(write="False"):
    """Compare the code with the list, or rewrite the list; return the exit status."""
    now = current()
    if write == "True":
        unlisted = [name for name, row in now["rows"].items() if row == UNLISTED]
        if unlisted:
            sys.exit(f"{', '.join(unlisted)}: registered, without arguments here; needed them in ROWS, TASKS or STAGES")
        LIST.write_text(json.dumps(now, indent=1) + "\n", "utf-8")
        return 0
    found = differences(now, json.loads(LIST.read_text("utf-8")))
    print("\n".join(found) or "the file format is as it was")
    return int(bool(found))


def differences(now, kept, where=()):
    """Return the differences between the code's list and the committed one, one sentence each."""
    if isinstance(now, list) and isinstance(kept, list):
        now, kept = ({name: name for name in names} for names in (now, kept))
    if isinstance(now, dict) and isinstance(kept, dict):
        keys = dict.fromkeys((*kept, *now))
        return [
            text for key in keys for text in differences(now.get(key, "none"), kept.get(key, "none"), (*where, key))
        ]
    needed = "it in the list, by file_format.py write=True" if kept == "none" else f"{kept}, as checkpoints have it"
    return [f"{', '.join(where)}: found {now}; needed {needed}"] if now != kept else []


def current():
    """Return the list of the current code."""
    built, backbones = small_modules(), {name: create_backbone(name, width=0.25) for name in list_backbones()}
    others = [Repeat(nn.Identity, [], []), VarifocalLoss(Remembering(nn.Identity())), SIoULoss(1)]
    modules = nn.ModuleList([*(module for _, module in built), *backbones.values(), *others])
    names, attributes = pickled([Distribution, modules]), {}
    for module in modules.modules():
        if path(type(module)).startswith(OURS):
            attributes.setdefault(path(type(module)), set()).update(held(module))
    rows = {}
    for (name, *given), module in built:
        if name not in STAGES or given == STAGES[name]:
            rows[name] = {"arguments": str(given), "class": path(type(module)), **tensors(module)}
    unlisted = {name for name, spec in specs().items() if path(spec.cls).startswith(OURS)} - rows.keys()
    return {
        "rows": rows | dict.fromkeys(sorted(unlisted), UNLISTED),
        "backbones": {name: digest(backbone) for name, backbone in backbones.items()},
        "attributes": {name: " ".join(sorted(held)) for name, held in sorted(attributes.items())},
        "globals": sorted(name for name in names if name.startswith(OURS)),
        "packages": sorted({name.partition(".")[0] for name in names if not name.startswith(OURS)}),
        "record": record(),
    }


def small_modules():
    """Build every registered module as the parser does; return [([YAML name, *arguments], module), ...]."""
    built = []

    def add(c1, name, *given):
        spec = specs()[name]
        values, c2 = arguments(name, spec, given, c1 if spec.inputs == 1 else [c1] * (spec.inputs or 1), SCALE)
        if spec.repeats == "argument":
            values = [*values[:2], 1, *values[2:]]
        built.append(([name, *given], spec.cls(*values)))
        return c2

    for name, given in ROWS.items():
        add(16, name, *given)
    for name, (variant, _) in STAGES.items():
        c1 = 3
        for level in range(1, 6):
            c1 = add(c1, name, variant, level)
    add(add(3, "TimmBackbone", "lcnet_050"), "Level", 3)
    return built


def path(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def tensors(module):
    """Return the names and shapes of a module's own tensors, one line per innermost submodule."""
    own, lines = held(module), {}
    for name, tensor in module.state_dict().items():
        child, _, _ = name.partition(".")
        owner, _, last = name.rpartition(".")
        if (child in own or child.isdecimal()) and not child.startswith("one2one_"):  # one2one branches are copies
            lines.setdefault(owner, []).append(f"{last} {'x'.join(map(str, tensor.shape)) or 'scalar'}")
    return {owner: ", ".join(each) for owner, each in lines.items()}


def digest(module):
    """Return the number of a module's tensors and a digest of their names and shapes."""
    lines = [f"{name} {tuple(tensor.shape)}" for name, tensor in module.state_dict().items()]
    return f"{len(lines)} tensors, {hashlib.sha256(repr(lines).encode()).hexdigest()[:12]}"


def held(module):
    """Return the names of yolo_lite's own attributes, submodules and tensors in a module's pickle."""
    if not any("__init__" in vars(cls) for cls in type(module).__mro__ if path(cls).startswith(OURS)):
        return set()  # everything in it comes from its base class
    state = module.__reduce_ex__(2)[2]
    names = {name for key in ("_parameters", "_buffers", "_modules") for name in state.get(key, ())}
    names |= state.keys() - vars(nn.Module()).keys()
    return {name for name in names if not name.isdecimal() and (not isinstance(module, Detect) or OF_HEADS.match(name))}


def pickled(value):
    """Return the names of the globals in the pickle of a checkpoint that holds a value."""
    buffer = io.BytesIO()
    torch.save({"model": value}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    found = [(op.name, argument) for op, argument, _ in pickletools.genops(data) if "GLOBAL" in op.name]
    assert all(name == "GLOBAL" for name, _ in found), "torch pickles with another protocol now"
    return {argument.replace(" ", ".") for _, argument in found}


def record():
    """Return what a checkpoint stores for a YAML's `backbone_weights: imagenet` before the weights are loaded."""
    text = configs()["yolov8-mnv2.yaml"].read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "yolov8n-mnv2.yaml"
        file.write_text(text.replace("backbone_weights: null", "backbone_weights: imagenet"), "utf-8")
        d = copy.deepcopy(yaml_model_load(file))
    return pickle.loads(pickle.dumps(d["backbone_weights"]))


if __name__ == "__main__":
    sys.exit(main(**dict(word.split("=", 1) for word in sys.argv[1:])))
