"""`yolo-lite make`: put a backbone, a neck and a head of ours into a host's model, and write it as a YAML.

The host's structure is read from its own YAML in the installed Ultralytics. Which of its rows are replaced, and which
level each row of its head takes, follows from the strides of its rows, so a new host needs no work here.
"""

import functools
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import yaml

from yolo_lite import _check, _host
from yolo_lite._registry import NO_EDGE_WEIGHTS, ConfigError, specs, suggest
from yolo_lite.backbones import families
from yolo_lite.backbones._stage import LEVELS
from yolo_lite.figures import choose_widths, figure_lines, fit_width, load
from yolo_lite.pretrained import check_setting
from yolo_lite.sources import find, find_timm
from yolo_lite.transfer import neck_start

SUFFIXES = ("-seg", "-pose", "-obb", "-cls", "-depth", "-sem")
TASKS = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
NECKS = ("host", "aspp", "lraspp", "extradw", "slim", "light")
HEADS = ("host", "light", "slim")
POOLINGS = {"SPP", "SPPF", "SPPELAN"}
CSP = {"C2f", "C3", "C3k2", "RepC3"}  # follow a Concat in a host's neck
TEXT_HEADS = ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26")  # that take words besides the image
LIGHT_NECK = 256  # channels, before the model's width
SLIM_NECK = {3: 256, 4: 384, 5: 512}  # likewise, of each level


class Row(NamedTuple):
    """One row of a model YAML, with what stands beside it."""

    inputs: int | list[int]
    repeats: int
    module: str
    args: list
    comment: str = ""
    gap: bool = False  # whether an empty line stands before it

    def __str__(self):
        text = f"  - {_flow([self.inputs, self.repeats, self.module, self.args])}"
        return "\n" * self.gap + text + (f" # {self.comment}" if self.comment else "")


class Host(NamedTuple):
    """A host's model, as its YAML has it."""

    name: str
    d: dict
    comments: dict[str, str]  # of its keys
    features: list[int]  # levels of the backbone's rows that a backbone of ours replaces
    context: list[Row]  # the rest of its backbone
    head: list[Row]


def make(
    host="yolov8",
    backbone="mobilenetv3_large_100",
    neck="host",
    head="host",
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
    """Write a model YAML: a host of Ultralytics with a backbone of ours, and if asked for a neck and a head of ours.

    Args:
        host: The name of one of Ultralytics' model YAMLs, without a scale letter.
        backbone: A name of `list_backbones()`, or one of timm's; `timm/` in front takes timm's own where both have it.
        neck: "host" for its own; "aspp" or "lraspp" in place of its SPPF; "extradw" for ExtraDWFusion and C3k2ExtraDW
            in place of Concat and C2f, C3 or C3k2; "slim" for YOLOv8's PAN with fewer channels; "light" for a depthwise
            PAN of constant width.
        head: "host" for its own, "light" for one with depthwise branches, "slim" for one with few channels.
        task: "detect", "segment", "pose", "obb" or "classify".
        width: The width multiplier alpha, one number or one for each scale letter; None chooses for each letter the
            largest published (else the largest usual) one that makes the model lighter than its host.
        weights: What the YAML's `backbone_weights` says.
        edge: ReLU6 everywhere and no squeeze-excite: what int8 keeps and edge compilers take.
        scale: Keep this scale letter only.
        max_gflops: Choose the largest alpha that keeps the model within so many GFLOPs; needs one scale, see `scale`.
        max_params: The same for parameters, in millions.
        imgsz: Height and width of the image at which GFLOPs are counted, pixels; 640, to classify 224.
        out: The file to write.
        exist_ok: Whether an existing file is replaced.
        note: A sentence for the header.
        keys: Values of the YAML's keys where they differ from the host's, like {"reg_max": 8}.
        count: Whether the header says what the model costs, which takes some ten seconds for each scale.

    Returns:
        (str): The YAML's text.

    Raises:
        ConfigError: Anything in it does not exist or does not go together, or no alpha fits the budget.
    """
    for key, value in (("host", host), ("backbone", backbone)):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{key} has to be a name, found {value!r}")
    for key, value, known in (("neck", neck, NECKS), ("head", head, HEADS), ("task", task, tuple(TASKS))):
        if value not in known:
            raise ConfigError(f"unknown {key} {value!r}{suggest(value, known)}")
    imgsz = (224 if task == "classify" else 640) if imgsz is None else imgsz
    _check.check_number("imgsz", imgsz, whole=True)
    if imgsz % 32:
        raise ConfigError(
            f"imgsz has to be a multiple of 32, found {imgsz}; near it is {max(round(imgsz / 32), 1) * 32}"
        )
    path = None if out is None else _check_out(Path(out), host, exist_ok)
    model, stock = _read(host, task), host + TASKS[task]
    model.d.update({**(_edge_keys(backbone, weights) if edge else {}), **(keys or {})})
    rows = _rows(model, backbone, neck, head)
    letters = list(model.d.get("scales") or [""])
    if scale is not None and scale not in letters:
        has = f"the scales {', '.join(letters)}" if letters != [""] else "one scale without a letter"
        raise ConfigError(f"host {host} has {has}, found scale={scale}")
    for letter in width if isinstance(width, dict) else ():
        if letter not in letters:
            raise ConfigError(f"host {host} has the scales {', '.join(letters)}, found width={letter}:{width[letter]}")
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
        _check.check(load(body, letter, path or "the new YAML"), _host.namespace())
    header = _header(model, backbone, neck, head, task, path, [note, said])
    lines = figure_lines(body, stock, task, letters, backbone, widths, imgsz) if count else []
    result = "\n".join([*header, *lines]) + "\n\n" + body
    if path is not None:
        draft = path.with_name(f".{path.name}.part")
        draft.write_text(result, "utf-8")
        draft.replace(path)
    return result


# Reading the host -----------------------------------------------------------------------------------------------------


def _read(name, task):
    known = _host.host_configs()
    stem = name + TASKS[task]
    if stem not in known:
        plain = [each for each in known if not any(each.endswith(suffix) for suffix in SUFFIXES)]
        if name not in known:
            raise ConfigError(f"unknown host {name!r}{suggest(name, plain)}")
        able = [each for each in TASKS if name + TASKS[each] in known]
        raise ConfigError(f"host {name} has no model for the task {task}, only for {', '.join(able)}")
    task = next((each for each, suffix in TASKS.items() if suffix and name.endswith(suffix)), None)
    if task is not None:
        raise ConfigError(f"host {name!r} names a task; use host={name.removesuffix(TASKS[task])} task={task}")
    text = known[stem].read_text("utf-8")
    d = yaml.safe_load(text)
    if not all(isinstance(d.get(section), list) for section in ("backbone", "head")):
        raise ConfigError(f"host {name} has no backbone and head to work on")
    if d["head"][-1][2] in TEXT_HEADS:
        raise ConfigError(
            f"host {name}'s {d['head'][-1][2]} takes words besides the image; its backbone stays as it is"
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
        levels = _host.host_levels(d)
    except Exception:  # rows that give several maps, as YOLOv9e's
        raise ConfigError(
            f"host {name} has backbone rows that are no plain sequence of maps; choose another host"
        ) from None
    return Host(name, d, keys, levels[:end], rows[end:count], rows[count:])


# Rows -----------------------------------------------------------------------------------------------------------------


def _rows(host, backbone, neck, head):
    """Return the rows of the new backbone and head."""
    stages, places = _stages(backbone)
    if host.features[-1] not in places:
        given = ", ".join(f"P{each}" for each in sorted(places))
        raise ConfigError(f"host {host.name}'s backbone ends with level P{host.features[-1]}; {backbone} gives {given}")
    context, rest, last = host.context, host.head[:-1], host.head[-1]
    if last.module == "Classify" and (neck, head) != ("host", "host"):
        raise ConfigError("a classifier has no neck, and its head is light already; leave neck and head out")
    if head != "host":
        kind = head.capitalize()
        if kind + last.module not in specs():
            able = ", ".join(name.removeprefix(kind) for name in specs() if name.startswith(kind))
            raise ConfigError(f"head={head} has no form of {host.name}'s {last.module}; it has of {able}")
        last = last._replace(module=kind + last.module, comment=last.comment and kind + last.comment)
    if context and context[0].module not in POOLINGS:  # an attention, which gives as many channels as it takes
        stages = [*stages, Row(-1, 1, "Conv", [context[0].args[0], 1, 1])]
    if neck in ("aspp", "lraspp"):
        context = _with_pyramid(host, neck.upper())
    if neck == "extradw":
        rest = _with_extra_dw(host, rest)
    if neck in ("slim", "light"):
        rows = _own_neck(host, stages, places, last, {"slim": _slim_neck, "light": _light_neck}[neck])
        return rows[: len(stages) + 1], rows[len(stages) + 1 :]

    old = len(host.features)

    def place(index):
        if index < 0:
            return index
        if index >= old:
            return index - old + len(stages)
        level = host.features[index]
        if level not in places:
            given = ", ".join(f"P{each}" for each in sorted(places))
            raise ConfigError(f"host {host.name} takes level P{level} of its backbone; {backbone} gives {given}")
        return places[level]

    moved = []
    for number, row in enumerate([*context, *rest, last], old):
        inputs = place(row.inputs) if isinstance(row.inputs, int) else [place(each) for each in row.inputs]
        comment = re.sub(rf"\b{number}\b", str(place(number)), row.comment, count=1)
        moved.append(row._replace(inputs=inputs, comment=comment))
    rows = stages + moved
    taken = {each for row in rows for each in (row.inputs if isinstance(row.inputs, list) else [row.inputs])}
    rows = [row._replace(comment=row.comment or str(i) * (i in taken)) for i, row in enumerate(rows)]
    return rows[: len(rows) - len(host.head)], rows[len(rows) - len(host.head) :]


def _stages(backbone):
    """Return a backbone's rows, and the index of the row that gives each level."""
    if backbone in families():
        stage = families()[backbone]
        short = next((short for short, name in stage.aliases.items() if name == backbone), backbone)
        rows = [
            Row(-1, 1, stage.__name__, [short, level], f"{level - 1}-P{level}/{2**level}")
            for level in range(1, LEVELS + 1)
        ]
        return rows, {level: level - 1 for level in range(1, LEVELS + 1)}
    from yolo_lite.backbones.timm_backbone import levels_of

    backbone = backbone.removeprefix("timm/")
    near = suggest(backbone.lower(), families())
    try:
        levels = [level for level in sorted(levels_of(backbone).channels) if level > 1]
    except ConfigError as error:
        if "did you mean" in near:
            raise ConfigError(f"unknown backbone {backbone!r}{near}") from None
        raise ConfigError(f"{error}; our own are listed by yolo-lite list") from None
    rows = [Row(-1, 1, "TimmBackbone", [backbone], "0")]
    rows += [Row(0, 1, "Level", [level], f"{i}-P{level}/{2**level}") for i, level in enumerate(levels, 1)]
    return rows, {level: index for index, level in enumerate(levels, 1)}


def _with_pyramid(host, module):
    if not any(row.module in POOLINGS for row in host.context):
        raise ConfigError(f"host {host.name} has no SPPF that {module} could replace")
    return [row._replace(module=module, args=row.args[:1]) if row.module in POOLINGS else row for row in host.context]


def _with_extra_dw(host, rows):
    """Replace each Concat of two maps and the CSP block after it."""
    rows = list(rows)
    for i, (first, second) in enumerate(zip(rows, rows[1:], strict=False)):
        if first.module == "Concat" and len(first.inputs) == 2 and second.module in CSP:
            # The map that comes from afar is the main one: on the way down it has the block's channels already.
            inputs = first.inputs if first.inputs[0] != -1 else first.inputs[::-1]
            comment = first.comment.replace("cat", "fuse", 1)
            rows[i] = first._replace(inputs=inputs, module="ExtraDWFusion", args=second.args[:1], comment=comment)
            args = second.args if second.module == "C3k2" else second.args[:1]
            rows[i + 1] = second._replace(module="C3k2ExtraDW", args=args)
    if rows == list(host.head[:-1]):
        raise ConfigError(f"host {host.name} has no Concat with a block of {', '.join(sorted(CSP))} after it")
    return rows


def _own_neck(host, stages, places, last, neck):
    """Replace all between backbone and head by a PAN over P3, P4 and P5, whose first row pools P5 as the host does."""
    missing = [level for level in (3, 4, 5) if level not in places]
    if missing or not isinstance(last.inputs, list) or len(last.inputs) != 3:
        found = f"the backbone lacks P{missing[0]}" if missing else f"{last.module} of {host.name} takes others"
        raise ConfigError(f"a neck of ours joins P3, P4 and P5 for a head that takes the three; {found}")
    pooling = next((row for row in host.context if row.module in POOLINGS), Row(-1, 1, "Conv", [0, 1, 1]))
    n = len(stages)
    rows, outputs = neck(n, places, pooling._replace(inputs=-1, comment=str(n)))
    return [*stages, *rows, last._replace(inputs=outputs)]


UP = (-1, 1, "nn.Upsample", ["None", 2, "nearest"])


def _slim_neck(n, places, top):
    """YOLOv8's PAN with fewer channels, from row `n` on; return its rows and the numbers of those for the head."""
    c3, c4, c5 = SLIM_NECK.values()
    rows = [
        top._replace(args=[c5, *top.args[1:]]),
        Row(*UP),
        Row([-1, places[4]], 1, "Concat", [1], "cat backbone P4"),
        Row(-1, 3, "C2f", [c4], str(n + 3)),
        Row(*UP, gap=True),
        Row([-1, places[3]], 1, "Concat", [1], "cat backbone P3"),
        Row(-1, 3, "C2f", [c3], f"{n + 6} (P3/8-small)"),
        Row(-1, 1, "Conv", [c3, 3, 2], gap=True),
        Row([-1, n + 3], 1, "Concat", [1], "cat head P4"),
        Row(-1, 3, "C2f", [c4], f"{n + 9} (P4/16-medium)"),
        Row(-1, 1, "Conv", [c4, 3, 2], gap=True),
        Row([-1, n], 1, "Concat", [1], "cat head P5"),
        Row(-1, 3, "C2f", [c5], f"{n + 12} (P5/32-large)"),
    ]
    return rows, [n + 6, n + 9, n + 12]


def _light_neck(n, places, top):
    """A depthwise PAN whose levels all have the same channels, from row `n` on; return as `_slim_neck`."""
    c = LIGHT_NECK
    mix = ("UniversalInvertedBottleneck", [c, 2, 5, 0])
    rows = [
        top._replace(args=[c, *top.args[1:]]),
        Row(*UP),
        Row([places[4], -1], 1, "ExtraDWFusion", [c, 5], "fuse backbone P4"),
        Row(-1, 1, *mix, str(n + 3)),
        Row(*UP, gap=True),
        Row([places[3], -1], 1, "ExtraDWFusion", [c, 5], "fuse backbone P3"),
        Row(-1, 1, *mix, f"{n + 6} (P3/8-small)"),
        Row([n + 3, -1], 1, "ExtraDWFusion", [c, 5, 2], "fuse head P4, P3 by stride 2", gap=True),
        Row(-1, 1, *mix, f"{n + 8} (P4/16-medium)"),
        Row([n, -1], 1, "ExtraDWFusion", [c, 5, 2], "fuse head P5, P4 by stride 2", gap=True),
        Row(-1, 1, *mix, f"{n + 10} (P5/32-large)"),
    ]
    return rows, [n + 6, n + 8, n + 10]


def _edge_keys(backbone, weights):
    if backbone not in families():
        raise ConfigError(f"edge=True changes our own backbones only, {backbone} is timm's: yolo-lite list")
    changes = families()[backbone].has_edge_form(backbone)
    if changes and weights is not None:
        raise ConfigError(f"edge=True {NO_EDGE_WEIGHTS}; leave weights away")
    return {**({"backbone_edge": True} if changes else {}), "activation": "nn.ReLU6()"}


# Text -----------------------------------------------------------------------------------------------------------------


def _text(host, backbone, rows, widths, *, letters, weights):
    """Write a YAML without its header."""
    lines = []
    for key, value in host.d.items():
        if key in ("backbone", "head"):
            continue
        if key == "scales" and value:
            lines.append("scales: # [depth, width, max_channels] of neck and head, as in every Ultralytics YAML")
            lines += [f"  {letter}: {_scale(value[letter])}" for letter in letters]
        elif key != "scales":
            comment = host.comments.get(key)
            lines.append(f"{key}: {_flow(value)}" + (f" # {comment}" if comment else ""))
    if widths is not None:
        alphas = ", ".join(f"{letter}: {float(widths[letter])}" for letter in letters)
        value = f"{{{alphas}}}" if letters != [""] else str(float(widths[""]))
        lines.append(f"backbone_width: {value} # alpha, the width multiplier")
    lines.append(f"backbone_weights: {_flow(weights)} # null, imagenet, or a checkpoint's path")
    head = [rows[1][0]._replace(gap=False), *rows[1][1:]]
    lines += ["", "backbone:", "  # [from, repeats, module, args]", *map(str, rows[0]), "", "head:", *map(str, head)]
    return "\n".join(lines) + "\n"


def _scale(values):
    depth, width, most = values
    depth, width = (f"{each:.2f}" if round(each, 2) == each else str(each) for each in (depth, width))
    return f"[{depth}, {width}, {most}]"


def _flow(value):
    """Write a value as Ultralytics' YAMLs do."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        return value if yaml.safe_load(value) == value else f'"{value}"'
    return "null" if value is None else str(value)


def _header(host, backbone, neck, head, task, path, notes):
    paper = families()[backbone].paper if backbone in families() else "through timm"
    parts = [f"{key} {value}" for key, value in (("neck", neck), ("head", head)) if value != "host"]
    name = path.name if path is not None else f"{host.name}-my.yaml"
    example = re.sub(r"(yolov?\d+)", r"\g<1>" + next(iter(host.d.get("scales") or [""])), name, count=1)
    data = {"classify": "imagenet10", "obb": "dota8.yaml"}.get(task, f"coco8{TASKS[task]}.yaml")
    sentences = [
        f"{host.name}{TASKS[task]} with {', '.join([f'the backbone {backbone}', *parts])}: {paper}",
        f"Use: yolo train model={example} data={data}",
        *filter(None, notes),
    ]
    return [f"# {line}" for each in sentences for line in textwrap.wrap(each, 118)]


def _check_out(path, host, exist_ok):
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
    if host.startswith("rtdetr") != ("rtdetr" in path.stem):
        wanted = f"rtdetr in its name, like {host}-my.yaml" if host.startswith("rtdetr") else "a name without rtdetr"
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
    if path.stem in _host.host_configs():
        raise ConfigError(
            f"out={path}: would hide Ultralytics' own {path.name}; choose a name like {path.stem}-my.yaml"
        )
    if not host.startswith("rtdetr") and not re.search(r"yolo(?:e-)?v?\d+", path.stem):
        LOGGER.warning(
            f"out={path}: under this name the first scale is used always; one like {host}-{path.stem}.yaml lets "
            f"model={host}s-{path.stem}.yaml choose"
        )
    return path
