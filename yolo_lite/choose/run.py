"""Run or resume a search: the field, the halving, the finalists and their comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolo_lite.choose.field import FILE as FIELD
from yolo_lite.choose.field import find
from yolo_lite.choose.halving import MAIN, Halving, pace_of, say
from yolo_lite.choose.schedule import LAST, Clock, finals_within, seeds_within
from yolo_lite.choose.settings import Settings
from yolo_lite.compare import latency
from yolo_lite.compare import run as comparing
from yolo_lite.compare.local import locked
from yolo_lite.compare.plan import Plan, Run, make_plan, write_folder
from yolo_lite.compare.record import read_run
from yolo_lite.compare.report import search as reported
from yolo_lite.compare.settings import ALL
from yolo_lite.datasets import scan
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import read_json, write, write_json

FORMAT = 4
FINALS = "finals.json"  # finalists, their epochs and image sizes, then the last of them with their seeds
CLOSING = 150  # seconds for the finalists' latency and the report
SAME = (
    "budget",
    "runtime",
    "threads",
    "int8",
    "max_params",
    "max_size",
    "bases",
    "backbones",
    "source",
    "split",
    "train",
)


@dataclass(frozen=True)
class Outcome:
    """Result of a search.

    Attributes:
        folder: Folder of the finalists' comparison, with the report.
        finished: Runs of the comparison that have metrics.
        failed: Runs of the comparison that have none.
    """

    folder: Path
    finished: Sequence[Run]
    failed: Sequence[Run]


def execute(wanted: Settings) -> Outcome:
    """Run a search, or resume it.

    Raises:
        ConfigError: The dataset is invalid, no candidate meets the budget, or the folder holds another search.
    """
    data = scan.load(wanted.data, wanted.split)
    _check_folder(wanted, data.content.digest)
    if wanted.ray:
        from yolo_lite.compare.cluster import slots

        wanted = replace(wanted, parallel=slots(wanted.ray, wanted.cpus, wanted.gpus, wanted.train.get("device")))
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with locked(wanted.folder) as lock:
        _check_folder(wanted, data.content.digest)
        _begin(wanted, data.content.digest)
        clock = Clock(wanted.folder / "clock.json", wanted.hours)

        def ticking(line: str) -> None:
            clock.tick()
            say(line)

        try:
            field = find(wanted, data.record | {"nc": len(data.content.classes)}, ticking)
            halving = Halving(wanted, field, clock, lock)
            if read_json(wanted.folder / FINALS):
                halving.open()
            else:
                halving.run()
                _choose_finalists(halving, clock)
            clock.tick(0)
            plan = make_plan(_comparison(wanted))
            write_folder(plan)
            known = read_json(wanted.folder / FINALS)
            write_json(plan.folder / reported.FILE, asdict(halving.report(known["models"])))  # compare's page shows it
            if not _measures_finalists(wanted):
                write_json(plan.folder / latency.FILE, _known_latency(halving, plan).to_plain())
            if "last" not in known:
                comparing.train(plan, clock.tick)
            _choose_last(halving, plan, clock)
            outcome = comparing.execute(make_plan(_comparison(wanted)), clock.tick)
        finally:
            clock.tick(0)
    return Outcome(outcome.folder, outcome.finished, outcome.failed)


def _known_by(wanted: Settings, digest: str) -> dict[str, Any]:
    """Return the content of `choose.json`: the settings and the dataset that identify a search."""
    settings = asdict(wanted)
    return {"format": FORMAT, "data": digest, **{key: settings[key] for key in SAME}}


def _check_folder(wanted: Settings, digest: str) -> None:
    """Check that a folder is new or holds the same search, or one that has not found its candidates yet.

    Raises:
        ConfigError: The folder holds something else.
    """
    advice = "use the same settings to continue it, or choose another name="
    old, new = read_json(wanted.folder / "choose.json"), _known_by(wanted, digest)
    if old is None:
        if wanted.folder.exists() and any(not path.name.startswith(".") for path in wanted.folder.iterdir()):
            raise ConfigError(f"{wanted.folder}: exists, but is not a search; choose another name=")
        return
    changed = _changed(old, new)
    if changed and (wanted.folder / FIELD).exists():
        key = changed[0]
        found = "other images or labels" if key == "data" else f"{key}={new[key]}, it has {key}={old.get(key)}"
        raise ConfigError(f"{wanted.folder} holds another search: {one_line(found)}; {advice}")


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings that differ."""
    return [key for key, value in new.items() if old.get(key) != (list(value) if isinstance(value, tuple) else value)]


def _begin(wanted: Settings, digest: str) -> None:
    """Write the settings to the folder; delete what is left of an attempt with others that found no candidates."""
    old, new = read_json(wanted.folder / "choose.json"), _known_by(wanted, digest)
    if old is not None and _changed(old, new):
        for name in ("works.json", "latency.json", "clock.json"):
            (wanted.folder / name).unlink(missing_ok=True)
    write_json(wanted.folder / "choose.json", new)


def _choose_finalists(halving: Halving, clock: Clock) -> None:
    """Select the finalists and write their YAMLs."""
    folder = halving.wanted.folder
    assert halving.search is not None
    ranking = halving.search.ranking()
    if len(ranking) < 2:
        raise ConfigError(
            f"{len(ranking)} of {len(halving.candidates)} candidates were trained, too few to choose from; raise hours="
        )
    paces = [halving.final_pace(label) for label in ranking]
    found = finals_within(_left(clock), paces, halving.plan["epochs"], halving.wanted.parallel)
    chosen = ranking[: found.candidates]
    stock = [label for label in ranking if halving.is_stock(label)]
    if stock and not set(stock) & set(chosen):
        chosen[-1] = stock[0]  # at least one: a smaller YOLO may be the better choice
    for label in chosen:
        source = folder / "candidates" / f"{halving.candidates[label].name}.yaml"
        write(folder / "models" / f"{label}.yaml", source.read_text("utf-8"))
    sizes = {label: halving.candidates[label].imgsz for label in chosen}
    write_json(folder / FINALS, {"models": chosen, "epochs": found.epochs, "imgsz": sizes})


def _choose_last(halving: Halving, plan: Plan, clock: Clock) -> None:
    """Select the finalists that get further seeds, the best of those trained with one, and the number of seeds.

    A resumed search keeps these finalists; with more time than before, they get more seeds.
    """
    known = read_json(halving.wanted.folder / FINALS)
    every = {(each.model.label, each.seed): read_run(each.folder, each.model.label, each.seed) for each in plan.runs}
    records = {label: record for (label, seed), record in every.items() if seed == 0}
    scores = {label: record.metrics.figures[MAIN] for label, record in records.items() if record.metrics}
    if len(scores) < LAST:
        return
    times = {label: halving.field.times[halving.candidates[label]] for label in scores}
    last = known.get("last") or sorted(scores, key=lambda label: (-scores[label], times[label]))[:LAST]
    last.sort(key=lambda label: not halving.is_stock(label))  # the first one is the baseline
    paces = [pace_of(records[label], known["epochs"]) or halving.final_pace(label) for label in last]
    done = sum(record.is_finished for (label, _), record in every.items() if label in last) // LAST
    seeds = seeds_within(_left(clock), paces, known["epochs"], halving.wanted.parallel, done)
    seeds = max(seeds, known.get("seeds", 0))
    write_json(halving.wanted.folder / FINALS, {**known, "last": last, "seeds": seeds})


def _measures_finalists(wanted: Settings) -> bool:
    """Return whether the comparison measures latency itself; it can do so here and in fp32 only."""
    return wanted.latency is None and not wanted.int8


def _known_latency(halving: Halving, plan: Plan) -> latency.Latency:
    """Return the finalists' latency as the search knows it, for the comparison's report and recommendation."""
    wanted, finalists = halving.wanted, [model.label for model in plan.models]
    times = {label: halving.field.times[halving.candidates[label]] for label in finalists}
    precision, first = "int8" if wanted.int8 else "fp32", times[finalists[0]]
    rows = []
    for each in plan.models:
        time = times[each.label]
        figures: Any = {"p50": time, "p90": time, **dict.fromkeys(("ratio", "low", "high"), time / first)}
        figures |= {"size": each.size, "parameters": each.parameters, "gflops": each.gflops}
        rows.append(latency.Row(each.label, wanted.runtime, wanted.threads, precision, **figures))
    return latency.Latency(
        models={model.label: model.digest for model in plan.models},
        imgsz=wanted.imgsz,
        runtimes=[wanted.runtime],
        threads=[wanted.threads],
        environment={"measured": f"in {Path(wanted.latency).name}" if wanted.latency else "by the search"},
        measurements=rows,
        sizes={label: halving.candidates[label].imgsz for label in finalists},
    )


def _left(clock: Clock) -> float:
    """Return the seconds that are left for training, without those for the latency and the report at the end."""
    return clock.left - min(CLOSING, clock.seconds / 10)


def _comparison(wanted: Settings) -> Mapping[str, Any]:
    """Return the settings of the finalists' comparison: one seed each, and further ones for the last of them."""
    known = read_json(wanted.folder / FINALS)
    last: Sequence[str] = known.get("last", [])
    files = {label: str(wanted.folder / "models" / f"{label}.yaml") for label in known["models"]}
    settings = {
        **wanted.train,
        "models": [*files.values()],
        "baseline": last[0] if last else None,
        "imgsz": {file: known["imgsz"][label] for label, file in files.items()},
        "data": wanted.data,
        "seeds": {ALL: [0], **{label: list(range(known["seeds"])) for label in last}},
        "epochs": known["epochs"],
        "split": wanted.split,
        "parallel": wanted.parallel,
        "latency": _measures_finalists(wanted),
        "runtimes": [wanted.runtime],
        "threads": [wanted.threads],
        "project": str(wanted.folder),
        "name": "finals",
    }
    settings |= {"pretrained": wanted.source} if wanted.source else {}
    return settings | ({"ray": wanted.ray, "cpus": wanted.cpus, "gpus": wanted.gpus} if wanted.ray else {})
