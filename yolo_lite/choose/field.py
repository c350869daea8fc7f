"""The field of a search: candidates as YAML files, their predicted latency, and measurements near the budget."""

import csv
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yolo_lite.choose.candidates import SHIPPED, Candidate, space
from yolo_lite.choose.cost_model import Work, at_size, work
from yolo_lite.choose.settings import Settings
from yolo_lite.choose.timing import FIRST, SLACK, Device, Say, Timings, check_budget, fitted, within
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import read_json, write, write_json

FILE = "field.json"
PART = 0.08  # maximum fraction of the hours spent on building candidates, and on each of two rounds of measuring
NEAR = 40  # number of candidates per hour that are measured because they may fit the budget
STOCK, OURS = 6, 8  # minimum numbers of stock or shrunk models and of our configs among these, if there are as many


@dataclass(frozen=True)
class Field:
    """Latency and size of the candidates before any is trained.

    Attributes:
        times: Latency of each measured candidate, in milliseconds.
        predicted: Latency of each candidate, in milliseconds, predicted by the cost model or read from a table.
        parameters: Number of parameters of each candidate, in millions.
        budget: Maximum latency, in milliseconds.
        error: Median relative error of the cost model; None if latencies come from a table.
        failed: Error messages of the candidates that could not be exported or run, by label.
    """

    times: Mapping[Candidate, float]
    predicted: Mapping[Candidate, float]
    parameters: Mapping[Candidate, float]
    budget: float
    error: float | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Field":
        """Create a field from the content of `field.json`."""
        rows = [(Candidate(**row["candidate"]), row) for row in plain["candidates"]]
        times, predicted, parameters = (
            {each: row[key] for each, row in rows if row[key] is not None}
            for key in ("time", "predicted", "parameters")
        )
        return cls(times, predicted, parameters, plain["budget"], plain["error"], plain["failed"])

    def to_plain(self) -> dict[str, Any]:
        """Return the content of `field.json`."""
        rows = [
            {
                "candidate": asdict(each),
                "time": self.times.get(each),
                "predicted": time,
                "parameters": self.parameters[each],
            }
            for each, time in self.predicted.items()
        ]
        return {"budget": self.budget, "error": self.error, "failed": dict(self.failed), "candidates": rows}

    @property
    def within(self) -> list[Candidate]:
        """Measured candidates within the budget, slowest first; stock models and our configs take turns with others."""
        fits = [
            each for each in sorted(self.times, key=self.times.__getitem__)[::-1] if self.times[each] <= self.budget
        ]
        stock = [each for each in fits if each.family is None]
        ours = [each for each in fits if each.family == SHIPPED]
        others = [each for each in fits if each.family not in (None, SHIPPED)]
        mixed: list[Candidate] = []
        while stock or ours or others:
            mixed += [*stock[:1], *ours[:1], *others[:3]]
            stock, ours, others = stock[1:], ours[1:], others[3:]
        return mixed


def find(wanted: Settings, data: Mapping[str, Any], say: Say) -> Field:
    """Build the candidates, measure a sample of them, then those that are predicted to be near the budget.

    Args:
        wanted: Settings of the search.
        data: Description of the dataset, with the number of classes as `nc`.
        say: Callback that is given progress messages.

    Raises:
        ConfigError: No candidate meets the budget or the size limits, or the latency table is invalid.
    """
    known = read_json(wanted.folder / FILE)
    if known is not None:
        return Field.from_plain(known)
    found = _find(wanted, data, say)
    _check_count(found)
    write_json(wanted.folder / FILE, found.to_plain())
    return found


def _check_count(found: Field) -> None:
    """Check that there are candidates to choose from.

    Raises:
        ConfigError: No candidate is within the budget, or one alone.
    """
    within, times = found.within, sorted(found.times.values())
    if not within:
        raise ConfigError(f"budget={found.budget:g}ms: the fastest of the candidates takes {times[0]:.1f} ms")
    if len(within) == 1:
        next_one = f"; the next one takes {times[1]:.1f} ms" if len(times) > 1 else ""
        raise ConfigError(
            f"budget={found.budget:g}ms: only {within[0].label} is within it ({times[0]:.1f} ms), so there is nothing "
            f"to choose{next_one}"
        )


def _find(wanted: Settings, data: Mapping[str, Any], say: Say) -> Field:
    models = wanted.folder / "candidates"
    table = _table(wanted) if wanted.latency else None
    everything = space(wanted.imgsz, wanted.bases, wanted.backbones)
    if table is not None:
        everything = [each for each in everything if each.label in table]
        if not everything:
            raise ConfigError(
                f"latency={wanted.latency}: none of its models is a candidate; candidates have names like "
                f"{space(wanted.imgsz, wanted.bases, wanted.backbones)[0].label}"
            )
    works, parameters = {}, {}
    for each, done, count in _described(everything, models, wanted, int(data["nc"]), say):
        if count <= (wanted.max_params or count) and 4 * count <= (wanted.max_size or 4 * count):
            works[each], parameters[each] = done, count
    if not works:
        raise ConfigError(f"max_params={wanted.max_params}, max_size={wanted.max_size}: every candidate is larger")
    if table is not None:
        times = {each: table[each.label] for each in works}
        check_budget(times.values(), wanted.budget)
        return Field(times, times, parameters, wanted.budget)
    device = Device(wanted.runtime, wanted.threads, wanted.data if wanted.int8 else None)
    most = PART * 3600 * wanted.hours
    reference = next((each for each in works if each.backbone is None), next(iter(works)))
    timings = Timings(wanted.folder / "latency.json", reference, models, device, say)
    model = fitted(timings, works, min(FIRST, round(12 + 24 * wanted.hours)), time.monotonic() + most)
    say(f"the cost model's median error is {model.error:.1%}, its 90th percentile {model.worst:.1%}")
    predicted = {each: model.predict(done) for each, done in works.items()}
    check_budget(predicted.values(), wanted.budget)
    near = _near(predicted, wanted.budget, max(8, round(NEAR * wanted.hours)), model.error)
    timings.measure(near, time.monotonic() + most)
    measured = timings.known
    times = {each: measured[each.label] for each in works if each.label in measured}
    return Field(times, predicted, parameters, wanted.budget, model.error, timings.failed)


def _near(predicted: Mapping[Candidate, float], budget: float, count: int, error: float) -> list[Candidate]:
    """Return the candidates that are worth measuring, including some stock models and some of our configs.

    Of these, the ones that may be over the budget are measured as well: they are few, and known to be good.
    """
    found = within(predicted, budget, count, error)
    for family, least in ((None, STOCK), (SHIPPED, OURS)):
        own = {each: time for each, time in predicted.items() if each.family == family}
        found += within(own, SLACK * budget, least)
    return list(dict.fromkeys(found))


def _described(
    candidates: list[Candidate], folder: Path, wanted: Settings, classes: int, say: Say
) -> Iterator[tuple[Candidate, Work, float]]:
    """Write the candidates' YAMLs; yield each candidate with its work and its parameters in millions."""
    file = wanted.folder / "works.json"
    known: dict[str, Any] = read_json(file) or {}
    names: dict[str, list[Candidate]] = {}
    for each in candidates:
        names.setdefault(each.name, []).append(each)
    ends = time.monotonic() + PART * 3600 * wanted.hours
    for name in _order(names):
        sizes = names[name]
        if name not in known:
            if time.monotonic() > ends:
                continue
            known[name] = _one(sizes[0], folder, wanted, classes)
            say(f"candidates: {len(known)} built\r")
            if len(known) % 20 == 0:
                write_json(file, known)
        if "work" in known[name]:
            for each in sizes:
                yield each, at_size(known[name]["work"], each.imgsz / wanted.imgsz), known[name]["parameters"]
    write_json(file, known)


def _order(names: Mapping[str, list[Candidate]]) -> list[str]:
    """Shuffle the names so that any leading part is a fair sample, behind the stock models and our configs."""
    shuffled = sorted(names)
    random.Random(0).shuffle(shuffled)
    return sorted(shuffled, key=lambda name: names[name][0].family not in (None, SHIPPED))


def _one(candidate: Candidate, folder: Path, wanted: Settings, classes: int) -> dict[str, Any]:
    """Write a candidate's YAML; return its work and parameters, or the reason why it cannot be built."""
    from ultralytics.nn.tasks import DetectionModel

    from yolo_lite.output import errors_only

    try:
        text = candidate.text(pretrained=bool(wanted.source))
        d = {**yaml.safe_load(text), "scale": candidate.scale, "nc": classes}
        with errors_only():
            model = DetectionModel(d, verbose=False).eval().fuse(verbose=False)
    except ConfigError as error:  # the head does not exist for the base, or the width makes the backbone too narrow
        return {"failed": one_line(error)}
    write(folder / f"{candidate.name}.yaml", text)
    return {"work": work(model, wanted.imgsz), "parameters": sum(each.numel() for each in model.parameters()) / 1e6}


def _table(wanted: Settings) -> dict[str, float]:
    """Read the p50 latency of each candidate, in milliseconds, from a table of `yolo-lite bench`, by label.

    A model whose name has no image size was measured at that of its row; without a column for it, at the largest one.

    Raises:
        ConfigError: The table has other columns or no number as latency, no row for the runtime, threads and precision,
            or several for a model.
    """
    where, way = f"latency={wanted.latency}", {"runtime": wanted.runtime, "threads": str(wanted.threads)}
    way["precision"] = "int8" if wanted.int8 else "fp32"
    with Path(str(wanted.latency)).open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("control", "False") != "True"]
    if not rows or not {"model", "p50"} <= rows[0].keys():
        raise ConfigError(f"{where}: needs a bench.csv of yolo-lite bench, with columns model and p50")
    way = {key: value for key, value in way.items() if key in rows[0]}
    fits = [row for row in rows if all(row[key] == value for key, value in way.items())]
    if not fits:
        ways = dict.fromkeys(", ".join(f"{key} {row[key]}" for key in way) for row in rows)
        needed = ", ".join(f"{key} {value}" for key, value in way.items())
        raise ConfigError(f"{where}: has no row for {needed}; it has {'; '.join(ways)}")
    found: dict[str, float] = {}
    for row in fits:
        try:
            latency = float(row["p50"])
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: the p50 of {row['model']} is {row['p50']!r}; needed milliseconds") from None
        label = f"{row['model']}-{row.get('imgsz') or wanted.imgsz}"
        if label in found:
            raise ConfigError(f"{where}: has several rows for {row['model']}; needed one")
        found[label] = latency
    return found | {row["model"]: float(row["p50"]) for row in fits}
