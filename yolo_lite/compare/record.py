"""Records of a run: where it started each time, how it ended and its metrics; reading them from a run's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from yolo_lite.files import read_json

METRICS = ("mAP50-95", "mAP50", "F1", "P", "R")
Kind = Literal["fresh", "resume", "evaluate"]
Status = Literal["finished", "resumed", "failed"]


@dataclass(frozen=True)
class Start:
    """Starting point of a run.

    Attributes:
        kind: "fresh" from the first epoch, "resume" from a checkpoint, "evaluate" if the training is complete.
        epoch: Number of epochs that the checkpoint has completed; None unless the run resumes.
        reason: Why a fresh start discarded an earlier training; None if there was none.
    """

    kind: Kind
    epoch: int | None = None
    reason: str | None = None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | str) -> "Start":
        """Create a start from plain data in `attempts.json`; releases before format 2 wrote a sentence there."""
        return cls(**plain) if isinstance(plain, Mapping) else _from_sentence(plain)


def _from_sentence(text: str) -> Start:
    """Parse "start", "start, again: it was torn", "epoch 3" or "evaluation"."""
    first, _, reason = text.partition(", again: ")
    if first.startswith("epoch"):
        return Start("resume", epoch=int(first.split()[1]))
    return Start("evaluate") if first == "evaluation" else Start("fresh", reason=reason or None)


@dataclass(frozen=True)
class Attempt:
    """One start of a run: its time and its starting point."""

    began: str
    start: Start

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Attempt":
        """Create an attempt from an entry of `attempts.json`."""
        return cls(plain.get("began", ""), Start.from_plain(plain["from"]))

    def to_plain(self) -> dict[str, Any]:
        """Return the entry for `attempts.json`."""
        return {"began": self.began, "from": asdict(self.start)}


def read_attempts(folder: Path) -> list[Attempt]:
    """Read all attempts of a run from its folder."""
    return [Attempt.from_plain(each) for each in read_json(folder / "attempts.json") or []]


def counting(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """Return the attempts that contributed to the final training: those since the last fresh start."""
    starts = [index for index, attempt in enumerate(attempts) if attempt.start.kind == "fresh"]
    return attempts[starts[-1] if starts else 0 :]


@dataclass(frozen=True)
class Evaluation:
    """Final metrics of a run.

    Attributes:
        split: Dataset split of the evaluation.
        images: Number of images evaluated.
        figures: Value of each metric over all classes.
        classes: Value of each metric and number of labelled `objects`, by class.
        checkpoint_bytes: Size of the checkpoint in bytes.
    """

    split: str
    images: int
    figures: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]]
    checkpoint_bytes: int

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Evaluation":
        """Create an evaluation from the `metrics` in `run.json`."""
        known = {field.name: plain[field.name] for field in fields(cls) if field.name != "figures"}
        return cls(figures={metric: plain[metric] for metric in METRICS}, **known)

    def to_plain(self) -> dict[str, Any]:
        """Return the `metrics` for `run.json`."""
        return {
            "split": self.split,
            "images": self.images,
            **self.figures,
            "classes": {name: dict(each) for name, each in self.classes.items()},
            "checkpoint_bytes": self.checkpoint_bytes,
        }


@dataclass(frozen=True)
class RunRecord:
    """State of a run: the content of `run.json` if it has ended; `status` is None if it has not.

    `initial_weights` describes what training started from; None if unknown, as on several GPUs. `train_seconds` is the
    training time in Ultralytics' table, `wall_seconds` the time of the process without its imports, `evaluate_seconds`
    and `evaluate_cpu_seconds` are times of the evaluation. Memory is in bytes.
    """

    model: str
    seed: int
    command: str | None = None
    settings: Mapping[str, Any] | None = None
    status: Status | None = None
    error: str | None = None
    notes: Sequence[str] = ()
    initial_weights: str | None = None
    metrics: Evaluation | None = None
    train_seconds: float | None = None
    wall_seconds: float | None = None
    evaluate_seconds: float | None = None
    evaluate_cpu_seconds: float | None = None
    attempts: Sequence[Attempt] = ()
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    machine: Mapping[str, Any] | None = None
    versions: Mapping[str, str] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the run has metrics, which includes resumed runs."""
        return self.status in ("finished", "resumed")

    @property
    def final(self) -> Evaluation:
        """Final metrics of a finished run."""
        assert self.metrics is not None
        return self.metrics

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], model: str, seed: int) -> "RunRecord":
        """Create a record from the content of `run.json`; model and seed are those of the comparison."""
        known = {field.name: plain[field.name] for field in fields(cls) if plain.get(field.name) is not None}
        known |= {"model": model, "seed": seed}
        known["attempts"] = [Attempt.from_plain(each) for each in known.get("attempts", ())]
        if "metrics" in known:
            known["metrics"] = Evaluation.from_plain(known["metrics"])
        record = cls(**known)
        return record if record.status in get_args(Status) else replace(record, status=None)

    def to_plain(self) -> dict[str, Any]:
        """Return the content of `run.json`, without unknown values."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.status is None:
            return {"model": self.model, "seed": self.seed}
        found |= {"notes": list(self.notes), "attempts": [each.to_plain() for each in self.attempts]}
        found["metrics"] = self.metrics.to_plain() if self.metrics else None
        return {key: value for key, value in found.items() if value is not None}


def read_run(folder: Path, model: str, seed: int) -> RunRecord:
    """Read the record of a run from its folder; its status is None if the run has not ended."""
    return RunRecord.from_plain(read_json(folder / "run.json") or {}, model, seed)


def is_finished(folder: Path) -> bool:
    """Return whether a run is finished, which includes resumed runs."""
    return (read_json(folder / "run.json") or {}).get("status") in ("finished", "resumed")
