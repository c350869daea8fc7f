"""`yolo-lite make`: put a backbone, a neck and a head of ours into a base's model, and write it as a YAML.

The base's structure is read from its own YAML in the installed Ultralytics; what becomes of its rows is in rows.py.
"""

import functools
import re
import textwrap
from pathlib import Path

import yaml

from yolo_lite.compose.budget import choose_widths, figure_lines, fit_width, load
from yolo_lite.compose.graft import Base, Row, flow, grafted
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.registry import NO_EDGE_WEIGHTS
from yolo_lite.ultralytics_hooks import checks, configs, internals
from yolo_lite.ultralytics_hooks.weights_key import check_setting
from yolo_lite.weights.by_role import neck_start
from yolo_lite.weights.published import find, find_timm

SUFFIXES = ("-seg", "-pose", "-obb", "-cls", "-depth", "-sem")
TASKS = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
NECKS = ("base", "aspp", "lraspp", "extradw", "slim", "light")
HEADS = ("base", "light", "slim")
TEXT_HEADS = ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26")  # that take words besides the image


def make(
    base="yolov8",
    backbone="mobilenetv3_large_100",
    neck="base",
    head="base",
    task="detect",
    width=None,
    weights=None,
    edge=False,
    scale=None,
    max_gflops=None,
    max_params=None,
    imgsz=None,
    out=None,
    exist_ok=False,
    note="",
    count=True,
    keys=None,
):
    """Write a model YAML: a base of Ultralytics with a backbone of ours, and if asked for a neck and a head of ours.

    Args:
        base: The name of one of Ultralytics' model YAMLs, without a scale letter.
        backbone: A name of `list_backbones()`, or one of timm's; `timm/` in front takes timm's own where both have it.
        neck: "base" for its own; "aspp" or "lraspp" in place of its SPPF; "extradw" for ExtraDWFusion and C3k2ExtraDW
            in place of Concat and C2f, C3 or C3k2; "slim" for YOLOv8's PAN with fewer channels; "light" for a depthwise
            PAN of constant width.
        head: "base" for its own, "light" for one with depthwise branches, "slim" for one with few channels.
        task: "detect", "segment", "pose", "obb" or "classify".
        width: The width multiplier alpha, one number or one for each scale letter; None chooses for each letter the
            largest published (else the largest usual) one that makes the model lighter than its base.
        weights: What the YAML's `backbone_weights` says.
        edge: ReLU6 everywhere and no squeeze-excite: what int8 keeps and edge compilers take.
        scale: Keep this scale letter only.
        max_gflops: Choose the largest alpha that keeps the model within so many GFLOPs; needs one scale, see `scale`.
        max_params: The same for parameters, in millions.
        imgsz: Height and width of the image at which GFLOPs are counted, pixels; 640, to classify 224.
        out: The file to write.
        exist_ok: Whether an existing file is replaced.
        note: A sentence for the header.
        keys: Values of the YAML's keys where they differ from the base's, like {"reg_max": 8}.
        count: Whether the header says what the model costs, which takes some ten seconds for each scale.

    Returns:
        (str): The YAML's text.

    Raises:
        ConfigError: Anything in it does not exist or does not go together, or no alpha fits the budget.
    """
    for key, value in (("base", base), ("backbone", backbone)):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{key} has to be a name, found {value!r}")
    for key, value, known in (("neck", neck, NECKS), ("head", head, HEADS), ("task", task, tuple(TASKS))):
        if value not in known:
            raise ConfigError(f"unknown {key} {value!r}{suggest(value, known)}")
    imgsz = (224 if task == "classify" else 640) if imgsz is None else imgsz
    checks.check_number("imgsz", imgsz, whole=True)
    if imgsz % 32:
        raise ConfigError(
            f"imgsz has to be a multiple of 32, found {imgsz}; near it is {max(round(imgsz / 32), 1) * 32}"
        )
    path = None if out is None else _check_out(Path(out), base, exist_ok)
    model, stock = _read(base, task), base + TASKS[task]
    model.d.update({**(_edge_keys(backbone, weights) if edge else {}), **(keys or {})})
    rows = grafted(model, backbone, neck, head)
    letters = list(model.d.get("scales") or [""])
    if scale is not None and scale not in letters:
        has = f"the scales {', '.join(letters)}" if letters != [""] else "one scale without a letter"
        raise ConfigError(f"base {base} has {has}, found scale={scale}")
    for letter in width if isinstance(width, dict) else ():
        if letter not in letters:
            raise ConfigError(f"base {base} has the scales {', '.join(letters)}, found width={letter}:{width[letter]}")
    letters = [scale] if scale else letters
    budget = {"GFLOPs": max_gflops, "M parameters": max_params}
    has_budget = any(value is not None for value in budget.values())
    text = functools.partial(_text, model, backbone, rows, letters=letters, weights=weights)
    if backbone not in families():
        if width is not None or has_budget:
            raise ConfigError(f"{backbone} is timm's and has no width multiplier; only our own have: yolo-lite list")
        widths, said = None, ""
    elif has_budget:
        if len(letters) > 1:
            raise ConfigError(f"a budget is for one model: give scale={letters[0]} or another of {', '.join(letters)}")
        if width is not None:
            raise ConfigError("a budget chooses the width; give one of the two")
        alpha, said = fit_width(text, backbone, letters[0], task, imgsz, budget)
        widths = {letters[0]: alpha}
    else:
        widths, said = choose_widths(text, backbone, letters, task, imgsz, stock, width), ""
    body = text(widths)
    if weights is not None:
        check_setting(weights, record=False)
        if widths is None:
            find_timm(backbone.removeprefix("timm/"), weights)
        for alpha in set((widths or {}).values()):
            find(backbone, alpha, weights)
    for letter in letters:
        checks.check(load(body, letter, path or "the new YAML"), internals.namespace())
    header = _header(model, backbone, neck, head, task, path, [note, said])
    lines = figure_lines(body, stock, task, letters, backbone, widths, imgsz) if count else []
    result = "\n".join([*header, *lines]) + "\n\n" + body
    if path is not None:
        draft = path.with_name(f".{path.name}.part")
        draft.write_text(result, "utf-8")
        draft.replace(path)
    return result


# Reading the base -----------------------------------------------------------------------------------------------------


def _read(name, task):
    known = configs.stock_configs()
    stem = name + TASKS[task]
    if stem not in known:
        plain = [each for each in known if not any(each.endswith(suffix) for suffix in SUFFIXES)]
        if name not in known:
            raise ConfigError(f"unknown base {name!r}{suggest(name, plain)}")
        able = [each for each in TASKS if name + TASKS[each] in known]
        raise ConfigError(f"base {name} has no model for the task {task}, only for {', '.join(able)}")
    task = next((each for each, suffix in TASKS.items() if suffix and name.endswith(suffix)), None)
    if task is not None:
        raise ConfigError(f"base {name!r} names a task; use base={name.removesuffix(TASKS[task])} task={task}")
    text = known[stem].read_text("utf-8")
    d = yaml.safe_load(text)
    if not all(isinstance(d.get(section), list) for section in ("backbone", "head")):
        raise ConfigError(f"base {name} has no backbone and head to work on")
    if d["head"][-1][2] in TEXT_HEADS:
        raise ConfigError(
            f"base {name}'s {d['head'][-1][2]} takes words besides the image; its backbone stays as it is"
        )
    every = d["backbone"] + d["head"]
    lines = text.partition("\nbackbone:")[2].splitlines()
    found = [re.fullmatch(r" *- \[.*?\] *(?:# *(.*))?", line) for line in lines]
    beside = [(match[1] or "", not lines[i - 1].strip()) for i, match in enumerate(found) if match]
    if len(beside) != len(every):  # written in another form than today's
        beside = [("", False)] * len(every)
    rows = [Row(*row, *notes) for row, notes in zip(every, beside, strict=True)]
    count, end = len(d["backbone"]), neck_start(d)
    keys = dict(re.findall(r"^(\w+):[^#\n]*# *(.*)$", text, re.M))
    try:
        levels = configs.stock_levels(d)
    except Exception:  # rows that give several maps, as YOLOv9e's
        raise ConfigError(
            f"base {name} has backbone rows that are no plain sequence of maps; choose another base"
        ) from None
    return Base(name, d, keys, levels[:end], rows[end:count], rows[count:])


def _edge_keys(backbone, weights):
    if backbone not in families():
        raise ConfigError(f"edge=True changes our own backbones only, {backbone} is timm's: yolo-lite list")
    changes = families()[backbone].has_edge_form(backbone)
    if changes and weights is not None:
        raise ConfigError(f"edge=True {NO_EDGE_WEIGHTS}; leave weights away")
    return {**({"backbone_edge": True} if changes else {}), "activation": "nn.ReLU6()"}


# Text -----------------------------------------------------------------------------------------------------------------


def _text(base, backbone, rows, widths, *, letters, weights):
    """Write a YAML without its header."""
    lines = []
    for key, value in base.d.items():
        if key in ("backbone", "head"):
            continue
        if key == "scales" and value:
            lines.append("scales: # [depth, width, max_channels] of neck and head, as in every Ultralytics YAML")
            lines += [f"  {letter}: {_scale(value[letter])}" for letter in letters]
        elif key != "scales":
            comment = base.comments.get(key)
            lines.append(f"{key}: {flow(value)}" + (f" # {comment}" if comment else ""))
    if widths is not None:
        alphas = ", ".join(f"{letter}: {float(widths[letter])}" for letter in letters)
        value = f"{{{alphas}}}" if letters != [""] else str(float(widths[""]))
        lines.append(f"backbone_width: {value} # alpha, the width multiplier")
    lines.append(f"backbone_weights: {flow(weights)} # null, imagenet, or a checkpoint's path")
    head = [rows[1][0]._replace(gap=False), *rows[1][1:]]
    lines += ["", "backbone:", "  # [from, repeats, module, args]", *map(str, rows[0]), "", "head:", *map(str, head)]
    return "\n".join(lines) + "\n"


def _scale(values):
    depth, width, most = values
    depth, width = (f"{each:.2f}" if round(each, 2) == each else str(each) for each in (depth, width))
    return f"[{depth}, {width}, {most}]"


def _header(base, backbone, neck, head, task, path, notes):
    paper = families()[backbone].paper if backbone in families() else "through timm"
    parts = [f"{key} {value}" for key, value in (("neck", neck), ("head", head)) if value != "base"]
    name = path.name if path is not None else f"{base.name}-my.yaml"
    example = re.sub(r"(yolov?\d+)", r"\g<1>" + next(iter(base.d.get("scales") or [""])), name, count=1)
    data = {"classify": "imagenet10", "obb": "dota8.yaml"}.get(task, f"coco8{TASKS[task]}.yaml")
    sentences = [
        f"{base.name}{TASKS[task]} with {', '.join([f'the backbone {backbone}', *parts])}: {paper}",
        f"Use: yolo train model={example} data={data}",
        *filter(None, notes),
    ]
    return [f"# {line}" for each in sentences for line in textwrap.wrap(each, 118)]


def _check_out(path, base, exist_ok):
    """Refuse a name under which the model could not be used."""
    from ultralytics.utils import LOGGER

    if path.suffix != ".yaml":
        raise ConfigError(f"out={path}: needs a name that ends in .yaml")
    if not path.parent.is_dir():
        raise ConfigError(f"out={path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ConfigError(f"out={path}: is a folder")
    if path.exists() and not exist_ok:
        raise ConfigError(f"out={path}: exists already; choose another name, or give exist_ok=True")
    if ("rtdetr" in base) != ("rtdetr" in path.stem):
        wanted = f"rtdetr in its name, like {base}-my.yaml" if "rtdetr" in base else "a name without rtdetr"
        raise ConfigError(f"out={path}: Ultralytics tells RT-DETR by the file's name; needs {wanted}")
    other = next((each for each in ("yoloe", "-world", "fastsam", "sam_", "sam2") if each in path.stem.lower()), None)
    if other:
        raise ConfigError(f"out={path}: Ultralytics takes {other!r} in a name for another kind of model; leave it out")
    letter = re.search(r"yolo(?:e-)?v?\d+([nslmx])", path.stem)
    if letter:
        before, after = path.name[: letter.start(1)], path.name[letter.end(1) :]
        use = before + (after if after.startswith(("-", ".", "_")) else f"-{letter[1]}{after}")
        raise ConfigError(
            f"out={path}: Ultralytics would read the scale letter {letter[1]!r} out of this name; use {use}, and name "
            "the letter in model="
        )
    if path.stem in configs.stock_configs():
        raise ConfigError(
            f"out={path}: would hide Ultralytics' own {path.name}; choose a name like {path.stem}-my.yaml"
        )
    if "rtdetr" not in base and not re.search(r"yolo(?:e-)?v?\d+", path.stem):
        LOGGER.warning(
            f"out={path}: under this name the first scale is used always; one like {base}-{path.stem}.yaml lets "
            f"model={base}s-{path.stem}.yaml choose"
        )
    return path
