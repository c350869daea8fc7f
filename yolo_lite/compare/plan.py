"""Turn settings into a checked list of runs; nothing is trained or written before everything is checked.

The same settings resume the comparison in the folder, additional models and seeds extend it, another baseline changes
its report, and any other change is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite import models as zoo
from yolo_lite.compare import baselines
from yolo_lite.compare import settings as given
from yolo_lite.compare.baselines import Baseline
from yolo_lite.compare.comparison import FILE, Comparison, ModelRecord
from yolo_lite.compare.folder import check_same, check_space, read_folder
from yolo_lite.compare.latency import Conditions
from yolo_lite.compare.record import is_finished
from yolo_lite.compare.settings import ALL, Settings
from yolo_lite.datasets import scan
from yolo_lite.datasets.scan import Dataset
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.files import write_json


@dataclass(frozen=True)
class Run:
    """One model trained with one seed."""

    model: zoo.Model
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.model.label} seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """A checked comparison, ready to run.

    Attributes:
        comparison: Definition of the comparison, as stored in `comparison.json`.
        settings: Checked user settings.
        models: Models to compare, size-matched baselines last.
        runs: Runs ordered by seed, so that early results can already be compared.
        data: The dataset.
    """

    comparison: Comparison
    settings: Settings
    models: Sequence[zoo.Model]
    runs: Sequence[Run]
    data: Dataset

    @property
    def folder(self) -> Path:
        """Folder of the comparison."""
        return self.settings.folder

    @property
    def conditions(self) -> Conditions:
        """Conditions that latency is measured under."""
        sizes = {model.label: self.comparison.imgsz(model.label) for model in self.models}
        own = sizes if self.comparison.differ_in_imgsz else {}
        return _conditions(self.settings, self.data, own)


def make_plan(settings: str | Path | Mapping[str, Any] | None = None, more: Mapping[str, Any] | None = None) -> Plan:
    """Check settings and plan the runs.

    Args:
        settings: Path of a YAML file or a dictionary with settings; None for none.
        more: Settings that override these.

    Returns:
        (Plan): The plan; nothing has been written yet.

    Raises:
        ConfigError: A setting, a model, the dataset or the folder is invalid.
    """
    wanted = given.read(settings, more)
    old = read_folder(wanted.folder)
    data = scan.load(wanted.data, wanted.split)
    known = {(each.given, each.digest): label for label, each in old.models.items()} if old else {}
    sizes = _sizes(wanted)
    models = zoo.load_detectors(wanted.models, len(data.record["classes"]), sizes, known)
    seeds = _seeds(wanted.seeds, models)
    found = _baselines(wanted, models, data, old)
    for each in found:
        seeds[each.model.label] = sorted({seed for label in each.size_matched.match_for for seed in seeds[label]})
    everything = [*models, *(each.model for each in found)]
    _check_labels(everything)
    differ = len(set(sizes)) > 1
    own = {model.label: size for model, size in zip(models, sizes, strict=True)} if differ else {}
    comparison = _comparison(wanted, everything, found, seeds, data, own)
    check_same(old, comparison, wanted.folder)
    plan = Plan(comparison, wanted, everything, _runs(wanted.folder, everything, seeds), data)
    left = [run.model.parameters for run in plan.runs if not is_finished(run.folder)]
    check_space(plan.folder, left, wanted.parallel)
    return plan


def check_folder(plan: Plan) -> None:
    """Check again that a plan's folder is new or its own, since another command may have written to it meanwhile.

    Raises:
        ConfigError: The folder holds another comparison.
    """
    check_same(read_folder(plan.folder), plan.comparison, plan.folder)


def write_folder(plan: Plan) -> None:
    """Write `comparison.json`, the YAML files of size-matched baselines and the sample images to a plan's folder."""
    write_json(plan.folder / FILE, plan.comparison.to_plain())  # first: it marks the folder as ours
    pretrained = isinstance(plan.comparison.train.get("pretrained"), str)
    for label, model in plan.comparison.models.items():
        if model.size_matched:
            baselines.write_yaml(model.size_matched, plan.folder / "models", label, pretrained)
    scan.write_samples(plan.data.samples, plan.folder / "samples")


def _comparison(
    wanted: Settings,
    models: Sequence[zoo.Model],
    found: Sequence[Baseline],
    seeds: Mapping[str, Sequence[int]],
    data: Dataset,
    sizes: Mapping[str, int],
) -> Comparison:
    """Assemble the definition of the comparison."""
    matched = {each.model.label: each.size_matched for each in found}
    return Comparison(
        name=wanted.folder.name,
        baseline=_label(wanted.baseline, "baseline", models) if wanted.baseline else models[0].label,
        match=wanted.match,
        data=data.content,
        train=wanted.train,
        models={
            each.label: ModelRecord(
                each.given,
                each.digest,
                each.parameters,
                each.gflops,
                each.size,
                matched.get(each.label),
                sizes.get(each.label),
            )
            for each in models
        },
        seeds=seeds,
        samples=data.samples,
    )


def _runs(folder: Path, models: Sequence[zoo.Model], seeds: Mapping[str, Sequence[int]]) -> list[Run]:
    return [
        Run(model, seed, folder / "runs" / model.label / str(seed))
        for seed in sorted({seed for each in seeds.values() for seed in each})
        for model in models
        if seed in seeds[model.label]
    ]


def _check_labels(models: Sequence[zoo.Model]) -> None:
    labels = [model.label for model in models]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"models: two would be called {label}; rename one of the files")


def _label(name: str, setting: str, models: Sequence[zoo.Model]) -> str:
    """Return the label of the model that the user refers to by label or by name."""
    for model in models:
        if name in (model.label, model.given, f"{model.label}.yaml"):
            return model.label
    raise ConfigError(f"{setting}={name}: is not one of the models{suggest(name, [model.label for model in models])}")


def _seeds(wanted: Mapping[str, Sequence[int]], models: Sequence[zoo.Model]) -> dict[str, list[int]]:
    """Return the seeds of each model, by label."""
    named = {name if name == ALL else _label(name, "seeds", models): list(each) for name, each in wanted.items()}
    missing = [model.label for model in models if model.label not in named and ALL not in named]
    if missing:
        raise ConfigError(f"seeds: {missing[0]} has none; name it or give all: [...]")
    return {model.label: named[model.label if model.label in named else ALL] for model in models}


def _sizes(wanted: Settings) -> list[int]:
    """Return the image size of each model, in pixels."""
    named = {name for name in wanted.sizes if name != ALL}
    found = []
    for model in wanted.models:
        names = {model, Path(model).name.removesuffix(".yaml"), f"{model}.yaml"} & named
        named -= names
        if not names and ALL not in wanted.sizes:
            raise ConfigError(f"imgsz: {model} has none; name it or give {ALL}:")
        found.append(wanted.sizes[names.pop() if names else ALL])
    if named:
        name = min(named)
        raise ConfigError(f"imgsz={name}: is not one of the models{suggest(name, wanted.models)}")
    return found


def _conditions(settings: Settings, data: Dataset, sizes: Mapping[str, int] | None = None) -> Conditions:
    classes, imgsz = len(data.content.classes), settings.train["imgsz"]
    return Conditions(classes, imgsz, settings.runtimes, settings.threads, sizes or {})


def _baselines(wanted: Settings, models: Sequence[zoo.Model], data: Dataset, old: Comparison | None) -> list[Baseline]:
    """Find the size-matched baselines of the models that get one."""
    if wanted.match is None:
        return []
    named = {}
    for word in wanted.match_for:
        name, _, base = word.partition(":")
        named[_label(name, "match_for", models)] = base
    bases = {model: named.get(model.label) or baselines.base_of(model.label) for model in models}
    chosen = {model: base for model, base in bases.items() if model.label in named or (base and not named)}
    if not chosen:
        raise ConfigError(
            f"match={wanted.match}: no model has a stock model in its name, as yolov8n-mnv3 has yolov8n; name one with "
            f"match_for={models[0].label}:yolov8n"
        )
    return baselines.find(wanted.match, chosen, _conditions(wanted, data), wanted.folder, old)
