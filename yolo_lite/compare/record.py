"""What a run writes down: where it started each time, how it ended, its figures; and how a folder's record is read."""

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
    """Where a run starts.

    Attributes:
        kind: "fresh" from the first epoch, "resume" from a checkpoint, "evaluate" when all of the training is done.
        epoch: How many epochs the checkpoint has behind it, where it resumes.
        reason: Why a fresh start threw away what was there.
    """

    kind: Kind
    epoch: int | None = None
    reason: str | None = None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | str) -> "Start":
        """Read what stands in `attempts.json`; releases before format 2 wrote a sentence there."""
        return cls(**plain) if isinstance(plain, Mapping) else _from_sentence(plain)


def _from_sentence(text: str) -> Start:
    """Read "start", "start, again: it was torn", "epoch 3", "evaluation"."""
    first, _, reason = text.partition(", again: ")
    if first.startswith("epoch"):
        return Start("resume", epoch=int(first.split()[1]))
    return Start("evaluate") if first == "evaluation" else Start("fresh", reason=reason or None)


@dataclass(frozen=True)
class Attempt:
    """One time that a run was started: when, and from where."""

    began: str
    start: Start

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Attempt":
        """Read an entry of `attempts.json`."""
        return cls(plain.get("began", ""), Start.from_plain(plain["from"]))

    def to_plain(self) -> dict[str, Any]:
        """Return it as it stands in `attempts.json`."""
        return {"began": self.began, "from": asdict(self.start)}


def read_attempts(folder: Path) -> list[Attempt]:
    """Return when a run was started, and from where each time."""
    return [Attempt.from_plain(each) for each in read_json(folder / "attempts.json") or []]


def counting(attempts: Sequence[Attempt]) -> Sequence[Attempt]:
    """Return the attempts that the training which counts is made of: from the last fresh start on."""
    starts = [index for index, attempt in enumerate(attempts) if attempt.start.kind == "fresh"]
    return attempts[starts[-1] if starts else 0 :]


@dataclass(frozen=True)
class Evaluation:
    """The final figures of a run.

    Attributes:
        split: The split that it was evaluated on.
        images: How many.
        figures: By metric, over all classes.
        classes: The same by class, and how many `objects` are labelled.
        checkpoint_bytes: Size of the checkpoint.
    """

    split: str
    images: int
    figures: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]]
    checkpoint_bytes: int

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Evaluation":
        """Read the `metrics` of `run.json`."""
        known = {field.name: plain[field.name] for field in fields(cls) if field.name != "figures"}
        return cls(figures={metric: plain[metric] for metric in METRICS}, **known)

    def to_plain(self) -> dict[str, Any]:
        """Return it as it stands in `run.json`."""
        return {
            "split": self.split,
            "images": self.images,
            **self.figures,
            "classes": {name: dict(each) for name, each in self.classes.items()},
            "checkpoint_bytes": self.checkpoint_bytes,
        }


@dataclass(frozen=True)
class RunRecord:
    """How a run stands: what `run.json` says of one that is over, no status where it is not.

    `initial_weights` says what training began with; None where that is not known, as on several GPUs.
    Seconds: `train_seconds` of the training, by Ultralytics' own table; `wall_seconds` of the process, its imports left
    out; `evaluate_seconds` and `evaluate_cpu_seconds` of the evaluation. Memory in bytes.
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
        """Whether it has figures; resumed ones have."""
        return self.status in ("finished", "resumed")

    @property
    def final(self) -> Evaluation:
        """The figures of a finished run."""
        assert self.metrics is not None
        return self.metrics

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], model: str, seed: int) -> "RunRecord":
        """Read what `run.json` holds, of a run that has this model and seed in the comparison."""
        known = {field.name: plain[field.name] for field in fields(cls) if plain.get(field.name) is not None}
        known |= {"model": model, "seed": seed}
        known["attempts"] = [Attempt.from_plain(each) for each in known.get("attempts", ())]
        if "metrics" in known:
            known["metrics"] = Evaluation.from_plain(known["metrics"])
        record = cls(**known)
        return record if record.status in get_args(Status) else replace(record, status=None)

    def to_plain(self) -> dict[str, Any]:
        """Return it as it stands in `run.json`: without what is not known."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.status is None:
            return {"model": self.model, "seed": self.seed}
        found |= {"notes": list(self.notes), "attempts": [each.to_plain() for each in self.attempts]}
        found["metrics"] = self.metrics.to_plain() if self.metrics else None
        return {key: value for key, value in found.items() if value is not None}


def read_run(folder: Path, model: str, seed: int) -> RunRecord:
    """Return the record of a run from its folder; one without a status where the run is not over."""
    return RunRecord.from_plain(read_json(folder / "run.json") or {}, model, seed)


def is_finished(folder: Path) -> bool:
    """Tell whether a run is finished, resumed ones included."""
    return (read_json(folder / "run.json") or {}).get("status") in ("finished", "resumed")
