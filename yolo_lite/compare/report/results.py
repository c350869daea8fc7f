"""All results of a comparison, computed from the small files in its folder."""

import csv
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_lite.compare import bootstrap, comparison, latency, significance
from yolo_lite.compare.bootstrap import Interval
from yolo_lite.compare.comparison import Comparison, ModelRecord
from yolo_lite.compare.evaluate import f1
from yolo_lite.compare.latency import Latency, Row
from yolo_lite.compare.record import METRICS, Attempt, RunRecord, read_run
from yolo_lite.compare.report.notes import notes_on
from yolo_lite.compare.report.recommendation import Candidate, Recommendation, recommend
from yolo_lite.compare.significance import Difference
from yolo_lite.errors import ConfigError
from yolo_lite.files import plain, read_json

MAIN = "mAP50-95"  # metric that decides
CURVES = {  # metric drawn over the epochs: column of Ultralytics' table
    "mAP50-95": "metrics/mAP50-95(B)",
    "mAP50": "metrics/mAP50(B)",
    "P": "metrics/precision(B)",
    "R": "metrics/recall(B)",
}
FILE = "results.json"
Values = dict[str, dict[int, float]]  # model -> seed -> value


@dataclass(frozen=True)
class Figure:
    """Mean and standard deviation over seeds; the latter is None with one seed."""

    mean: float
    sd: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + (f" ± {self.sd:.3f}" if self.sd is not None else "")


@dataclass(frozen=True)
class ModelResult:
    """Results of a model.

    Attributes:
        record: Record of the model.
        seeds: Seeds whose runs are finished.
        metrics: Mean and standard deviation of each metric on the final split.
        classes: Mean of each metric over seeds, by class.
        train_seconds: Mean training time over seeds, in seconds.
        peak_memory, peak_gpu_memory: Maximum over the model's runs, in bytes; None if unknown.
        latency: Latency measurements.
        difference: Difference to the baseline, by metric.
        to_size_matched: Difference to the model's size-matched baseline, by metric.
        images: Bootstrap intervals over the test images, by metric.
    """

    record: ModelRecord
    seeds: Sequence[int]
    metrics: Mapping[str, Figure]
    classes: Mapping[str, Mapping[str, float]]
    train_seconds: float
    peak_memory: int | None
    peak_gpu_memory: int | None
    latency: Sequence[Row]
    difference: Mapping[str, Difference]
    to_size_matched: Mapping[str, Difference]
    images: Mapping[str, Interval]

    def to_plain(self) -> dict[str, Any]:
        """Return the model's entry for `results.json`."""
        record = self.record.to_plain()
        return {
            **{key: value for key, value in record.items() if key not in ("digest", "yaml")},
            "seeds": list(self.seeds),
            "metrics": {metric: asdict(figure) for metric, figure in self.metrics.items()},
            "classes": {name: dict(figures) for name, figures in self.classes.items()},
            "train_seconds": self.train_seconds,
            "peak_memory": self.peak_memory,
            "peak_gpu_memory": self.peak_gpu_memory,
            "latency": [asdict(row) for row in self.latency],
            "difference": {metric: each._asdict() for metric, each in self.difference.items()},
            "to_size_matched": {metric: each._asdict() for metric, each in self.to_size_matched.items()},
            "images": {metric: asdict(each) for metric, each in self.images.items()},
        }


@dataclass(frozen=True)
class RunResult:
    """A run: its record, and its curves over the epochs; the latter are None unless it is finished."""

    record: RunRecord
    curves: Mapping[str, Sequence[float]] | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return the run's entry for `results.json`."""
        return self.record.to_plain() | ({"curves": dict(self.curves)} if self.curves else {})


@dataclass(frozen=True)
class Results:
    """All results of a comparison.

    Attributes:
        comparison: Definition of the comparison.
        models: Results of the models with a finished run, by label.
        size_matched: Label of the size-matched baseline of each model, if both have a finished run.
        runs: All runs, finished or not.
        latency: Measured latency; None if it was not measured.
        notes: Sentences for the reader on how the results were obtained.
        recommendation: Recommended model.
    """

    comparison: Comparison
    models: Mapping[str, ModelResult]
    size_matched: Mapping[str, str]
    runs: Sequence[RunResult]
    latency: Latency | None
    notes: Sequence[str]
    recommendation: Recommendation

    @property
    def ways(self) -> list[str]:
        """Combinations of runtime, precision and threads that latency was measured in, as text."""
        return list(dict.fromkeys(row.way for model in self.models.values() for row in model.latency))

    def cost_of(self, model: str) -> str | None:
        """Describe the latency of a model's size-matched baseline; None if it was not chosen by latency."""
        matched = self.comparison.models[self.size_matched[model]].size_matched
        timed = matched.match_for.get(model) if matched else None
        return str(timed) if timed else None

    def to_plain(self) -> dict[str, Any]:
        """Return the content of `results.json`."""
        found = {
            "comparison": self.comparison.to_plain(),
            "models": {label: model.to_plain() for label, model in self.models.items()},
            "size_matched": dict(self.size_matched),
            "runs": [run.to_plain() for run in self.runs],
            "latency": self.latency.to_plain() if self.latency else None,
            "notes": list(self.notes),
            "recommendation": self.recommendation.to_plain(),
        }
        return dict(plain(found))


def gather(folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Results:
    """Read a comparison's folder and compute all results.

    Args:
        folder: Folder of the comparison.
        say: Callback that is given progress messages, since this takes minutes with many runs and images.

    Raises:
        ConfigError: The folder holds no comparison, or no finished run.
    """
    folder = Path(folder)
    compared = comparison.read(folder)
    if compared is None:
        raise ConfigError(f"{folder}: holds no comparison ({comparison.FILE} is missing)")
    runs = _runs(folder, compared)
    by_label = {
        label: [run.record for run in runs if run.record.model == label and run.curves] for label in compared.models
    }
    finished = {label: records for label, records in by_label.items() if records}
    if not finished:
        raise ConfigError(f"{folder}: no run is finished, so there is nothing to report")
    timed = latency.read(folder)
    against = {label: compared.baseline for label in finished if label != compared.baseline}
    pairs = {model: label for model, label in compared.size_matched.items() if model in finished and label in finished}
    difference, to_size_matched = _differences(finished, against), _differences(finished, pairs)
    number = sum(map(len, finished.values()))
    say(f"{compared.name}: {number} runs read; resampling the images of {len(finished)} models")
    images = _image_intervals(folder, finished, against)
    models = {
        label: _model(compared, label, records, timed, difference[label], to_size_matched[label], images.get(label, {}))
        for label, records in finished.items()
    }
    notes = notes_on(compared, [run.record for run in runs], timed)
    return Results(compared, models, pairs, runs, timed, notes, _recommendation(finished, models))


def _runs(folder: Path, compared: Comparison) -> list[RunResult]:
    found = []
    for label, seeds in compared.seeds.items():
        for seed in seeds:
            place = folder / "runs" / label / str(seed)
            record = read_run(place, label, seed)
            found.append(RunResult(record, read_curves(place / "results.csv") if record.is_finished else None))
    return found


def _differences(runs: Mapping[str, Sequence[RunRecord]], pairs: Mapping[str, str]) -> dict[str, dict[str, Difference]]:
    """Compare models with others; return differences by model, then by metric."""
    found: dict[str, dict[str, Difference]] = {label: {} for label in runs}
    for metric in METRICS:
        values = {label: {run.seed: run.final.figures[metric] for run in records} for label, records in runs.items()}
        for label, difference in significance.differences(values, pairs).items():
            found[label][metric] = difference
    return found


def _recommendation(runs: Mapping[str, Sequence[RunRecord]], models: Mapping[str, ModelResult]) -> Recommendation:
    """Return the recommendation; where two or more models have several seeds, the best one is among these."""
    several = [label for label in models if len(runs[label]) > 1]
    asked = several if len(several) > 1 else list(models)
    best = max(asked, key=lambda label: models[label].metrics[MAIN].mean)
    to_best = _differences(runs, {label: best for label in models if label != best})
    candidates = {
        label: Candidate(each.metrics[MAIN].mean, each.record.gflops, each.latency, to_best[label].get(MAIN))
        for label, each in models.items()
    }
    return recommend(candidates, best)


def _image_intervals(
    folder: Path, runs: Mapping[str, Sequence[RunRecord]], pairs: Mapping[str, str]
) -> dict[str, dict[str, Interval]]:
    counted = {
        label: {run.seed: bootstrap.Counted(folder / "runs" / label / str(run.seed) / "images.npz") for run in records}
        for label, records in runs.items()
    }
    return bootstrap.intervals(counted, pairs)


def _model(
    compared: Comparison,
    label: str,
    runs: Sequence[RunRecord],
    timed: Latency | None,
    difference: Mapping[str, Difference],
    to_size_matched: Mapping[str, Difference],
    images: Mapping[str, Interval],
) -> ModelResult:
    record = compared.models[label]
    is_timed = timed is not None and timed.models.get(label) == record.digest
    return ModelResult(
        record=record,
        seeds=[run.seed for run in runs],
        metrics={metric: _figure([run.final.figures[metric] for run in runs]) for metric in METRICS},
        classes=_classes(compared, runs),
        train_seconds=statistics.mean(run.train_seconds or 0.0 for run in runs),
        peak_memory=max((run.peak_memory or 0 for run in runs), default=0) or None,
        peak_gpu_memory=max((run.peak_gpu_memory or 0 for run in runs), default=0) or None,
        latency=timed.of(label) if timed and is_timed else [],
        difference=difference,
        to_size_matched=to_size_matched,
        images=images,
    )


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)


def _classes(compared: Comparison, runs: Sequence[RunRecord]) -> dict[str, dict[str, float]]:
    """Return the mean of each metric over seeds, for each class that occurs in the evaluated images."""
    known = {name for run in runs for name in run.final.classes}
    return {
        name: {metric: statistics.mean(run.final.classes[name][metric] for run in runs) for metric in METRICS}
        for name in compared.data.classes
        if name in known
    }


def read_curves(file: Path) -> dict[str, list[float]]:
    """Read Ultralytics' table over the epochs: epoch, mAP50-95, mAP50, P, R and all losses; F1 is added."""
    with open(file, encoding="utf-8") as text:
        rows = [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(text)]
    columns = rows[0]
    curves: dict[str, list[float]] = {"epoch": [int(row["epoch"]) for row in rows]}
    curves |= {name: [row[column] for row in rows] for name, column in CURVES.items() if column in columns}
    curves["F1"] = [f1(row[CURVES["P"]], row[CURVES["R"]]) for row in rows]
    curves |= {name: [row[name] for row in rows] for name in columns if name.endswith("loss")}
    return curves


# results.json ---------------------------------------------------------------------------------------------------------


def read_results(folder: str | Path) -> dict[str, Any] | None:
    """Read `results.json` in a folder, migrated to the current format; None if it is missing."""
    found = read_json(Path(folder) / FILE)
    return None if found is None else migrated(found)


def migrated(old: dict[str, Any]) -> dict[str, Any]:
    """Migrate the content of a `results.json` to the current format; missing parts are tolerated."""
    if old["comparison"]["format"] == comparison.FORMAT:
        return old
    new = {key: value for key, value in old.items() if key != "rivals"} | {"size_matched": old.get("rivals", {})}
    new["comparison"] = comparison.migrated(old["comparison"])
    new["models"] = {
        label: _migrated_model(model, new["comparison"]["models"][label]) for label, model in old["models"].items()
    }
    new["runs"] = [
        run | {"attempts": [Attempt.from_plain(each).to_plain() for each in run["attempts"]]}
        if "attempts" in run
        else run
        for run in old["runs"]
    ]
    if old.get("latency"):
        new["latency"] = Latency.from_plain(old["latency"]).to_plain()
    return new


def _migrated_model(model: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in model.items() if key not in ("rival_of", "to_rival")}
    kept |= {key: value for key, value in record.items() if key not in ("digest", "yaml")}
    rows = [asdict(Row.from_plain(each)) for each in model.get("latency", ())]
    return {**kept, "to_size_matched": model.get("to_rival", {}), "latency": rows}
