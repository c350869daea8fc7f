"""Size-matched baselines: a stock model shrunk in width until it costs the same as a model with another backbone.

A backbone that loses to its size-matched baseline has no reason to exist. Channels are multiples of 16: other widths
waste the processor's registers and would make the baseline too weak.
"""

import functools
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolo_lite import models as zoo
from yolo_lite.compare import latency
from yolo_lite.compare.comparison import Comparison, Matched, SizeMatched
from yolo_lite.compare.latency import Conditions
from yolo_lite.errors import ConfigError
from yolo_lite.files import write
from yolo_lite.output import errors_only

STEP = 16  # channels
TIMED, SECONDS = 10, 3  # number of shrunk models timed to find the one of equal latency, seconds per model


@dataclass(frozen=True)
class Baseline:
    """A size-matched baseline: the model and a description of how it was made."""

    model: zoo.Model
    size_matched: SizeMatched


def find(
    match: str,
    bases: Mapping[zoo.Model, str | None],
    conditions: Conditions,
    folder: Path,
    old: Comparison | None,
) -> list[Baseline]:
    """Find the size-matched baseline of each model.

    Args:
        match: Cost that is to be equal, "gflops" or "latency".
        bases: The models that get a baseline, each with the name of the stock model that is shrunk.
        conditions: Measuring conditions, of which the first runtime and number of threads are used.
        folder: Folder of the comparison; the YAML files will be written to its `models`.
        old: Comparison that is resumed, whose size-matched baselines are kept; None for a new one.

    Returns:
        (list[Baseline]): The baselines; one that serves several models is listed once.

    Raises:
        ConfigError: A model has no base, costs more than its base, or had another base when the comparison began.
    """
    found: dict[str, SizeMatched] = {}
    for model, base in bases.items():
        if base is None:
            raise ConfigError(
                f"match={match}: {model.label} has no stock model in its name, as yolov8n-mnv3 has yolov8n; name one "
                f"with match_for={model.label}:yolov8n"
            )
        if not re.fullmatch(r"yolov?\d+[nsmlx]", base):
            raise ConfigError(
                f"match_for: {model.label}:{base} needs a stock model with its scale letter, like yolov8n"
            )
        label, one = _known(model, base, folder, old) or _new(EQUAL[match](base, model, conditions))
        match_for = found[label].match_for if label in found else {}
        found[label] = replace(one, match_for={**match_for, model.label: one.match_for[model.label]})
    return [Baseline(_model(label, one, conditions, folder), one) for label, one in found.items()]


def _new(one: SizeMatched) -> tuple[str, SizeMatched]:
    return one.label, one


def _known(model: zoo.Model, base: str, folder: Path, old: Comparison | None) -> tuple[str, SizeMatched] | None:
    """Return the size-matched baseline of a model in a comparison that is resumed; None if it has none.

    Raises:
        ConfigError: The baseline was made from another base.
    """
    label = old.size_matched.get(model.label) if old else None
    one = old.models[label].size_matched if old and label else None
    if label is None or one is None:
        return None
    if one.base != base:
        raise ConfigError(
            f"match_for={model.label}:{base}: {folder} holds another comparison, whose size-matched baseline of it is "
            f"{label}; choose another name="
        )
    return label, one


def _model(label: str, one: SizeMatched, conditions: Conditions, folder: Path) -> zoo.Model:
    measured = zoo.measure(_built(one, conditions.classes), conditions.imgsz)
    file = f"models/{label}.yaml"
    return zoo.Model(label, str(folder / file), file, zoo.digest_of(one.yaml), *measured)


def _built(one: SizeMatched, classes: int) -> Any:
    """Build a shrunk model."""
    from ultralytics.nn.tasks import DetectionModel

    with errors_only():
        return DetectionModel(
            {**one.yaml, "scale": one.base[-1], "yaml_file": f"{one.base}.yaml"}, nc=classes, verbose=False
        )


def base_of(name: str) -> str | None:
    """Return the stock model that a model's name starts with, like `yolov8n` for `yolov8n-mnv3`; None without one."""
    match = re.match(r"(yolov?\d+[nsmlx])-", Path(name).name)
    return match[1] if match else None


def shrunk(base: str, width: float) -> SizeMatched:
    """Shrink a stock model: multiply its channels by `width`, rounded to multiples of 16."""
    from ultralytics.nn.tasks import yaml_model_load

    d = yaml_model_load(f"{base}.yaml")
    depth, scale, most = d["scales"][d["scale"]]
    for row in d["backbone"] + d["head"]:
        if row[3] and isinstance(row[3][0], int) and row[3][0] >= STEP:  # smaller ones: 1 is Concat's axis
            row[3] = [max(STEP, round(min(row[3][0], most) * scale * width / STEP) * STEP), *row[3][1:]]
    letter = d.pop("scale")
    d.pop("yaml_file")
    return SizeMatched(base, width, {}, {**d, "scales": {letter: [depth, 1.0, 1 << 16]}})


def candidates(base: str) -> list[SizeMatched]:
    """Return all distinct shrunk models of a base, widest first."""
    found: list[SizeMatched] = []
    for number in range(200, 19, -1):
        one = shrunk(base, number / 200)
        if not found or one.yaml != found[-1].yaml:
            found.append(one)
    return found


def write_yaml(one: SizeMatched, folder: Path, label: str | None = None, pretrained: bool = False) -> Path:
    """Write a shrunk model as a YAML file named after its label; return the path."""
    path = folder / f"{label or one.label}.yaml"
    write(path, text_of(one, pretrained))
    return path


def text_of(one: SizeMatched, pretrained: bool = False) -> str:
    """Return the YAML text of a shrunk model.

    With `pretrained`, the YAML requests the transfer explicitly, since all its modules are Ultralytics' own; models
    with modules of ours get it by default.
    """
    import yaml

    text = f"# {one.base} at {one.width:g} of its width, channels in multiples of {STEP}\n"
    for key, value in one.yaml.items():
        if key in ("backbone", "head"):
            text += f"{key}:\n" + "".join(f"  - {json.dumps(row)}\n" for row in value)  # JSON is YAML; one row per line
        else:
            text += yaml.safe_dump({key: value}, default_flow_style=None if isinstance(value, dict) else False)
    return text + "transfer: true\n" * pretrained


def gflops_of(one: SizeMatched, conditions: Conditions) -> float:
    """Return the GFLOPs of a shrunk model."""
    from yolo_lite.cost import cost

    return float(cost(_built(one, conditions.classes), conditions.imgsz)[1])


def equal_gflops(base: str, model: zoo.Model, conditions: Conditions) -> SizeMatched:
    """Find the shrunk model whose GFLOPs are nearest to a model's, by bisection over the widths.

    Raises:
        ConfigError: The base itself has fewer GFLOPs than the model.
    """
    choices = candidates(base)

    @functools.cache
    def gflops(number: int) -> float:
        return gflops_of(choices[number], conditions)

    if gflops(0) < model.gflops:
        raise ConfigError(
            f"match=gflops: {base} has {gflops(0):.2f} GFLOPs, fewer than {model.label} with {model.gflops:.2f}; "
            "it is smaller already; leave that model out of match_for="
        )
    low, high = 0, len(choices) - 1  # GFLOPs decrease from low to high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if gflops(middle) >= model.gflops else (low, middle)
    best = min((low, high), key=lambda number: abs(gflops(number) - model.gflops))
    return replace(choices[best], match_for={model.label: None})


def equal_latency(base: str, model: zoo.Model, conditions: Conditions) -> SizeMatched:
    """Find the shrunk model whose latency is nearest to a model's: a coarse search over the widths, then a fine one.

    Raises:
        ConfigError: The base itself is faster than the model.
    """
    choices = candidates(base)
    coarse = sorted({round(i * (len(choices) - 1) / TIMED) for i in range(TIMED + 1)})
    found = _timed([choices[number] for number in coarse], model, conditions)
    if found[0].ratio < 1:
        raise ConfigError(
            f"match=latency: {base} takes {found[0].ratio:.2f} of the time of {model.label}; it is faster "
            "already; leave that model out of match_for="
        )
    best = _nearest(found)
    near = range(coarse[max(best - 1, 0)], coarse[min(best + 1, len(coarse) - 1)] + 1)
    found = _timed([choices[number] for number in near], model, conditions)
    best = _nearest(found)
    return replace(choices[near[best]], match_for={model.label: found[best]})


def _timed(choices: Sequence[SizeMatched], model: zoo.Model, conditions: Conditions) -> list[Matched]:
    """Time shrunk models and a model, interleaved; return the result of each shrunk model."""
    one_way = replace(conditions, runtimes=latency.runtimes_of(conditions.runtimes)[:1], threads=conditions.threads[:1])
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as folder:
        files = [str(write_yaml(one, Path(folder))) for one in choices]
        models = [model, *(zoo.Model(Path(file).stem, file, file, "", 0, 0.0, 0) for file in files)]
        found = latency.measure(models, one_way, seconds=SECONDS)
    rows = {row.model: row for row in found.measurements if row.precision == "fp32" and not row.control}
    return [
        Matched(row.ratio, row.low, row.high, row.runtime, row.threads, found.environment)
        for row in (rows[timed.label] for timed in models[1:])
    ]


def _nearest(found: Sequence[Matched]) -> int:
    return min(range(len(found)), key=lambda number: abs(found[number].ratio - 1))


EQUAL: dict[str, Callable[[str, zoo.Model, Conditions], SizeMatched]] = {
    "gflops": equal_gflops,
    "latency": equal_latency,
}
