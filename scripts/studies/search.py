"""What `yolo-lite choose` finds, compared with the models that one would take without it.

    python scripts/studies/search.py data=shapes [folder=runs/search] [hours=1] [parallel=2]
        search on the generated dataset; compare the recommended model with the shipped configs within the budget and
        with candidates drawn at random
    python scripts/studies/search.py data=path/to/bccd.yaml source=others-than-bccd.pt [like=yolo26s-lite] ...
        search at the latency of a preset; the source is a YOLOv8n trained on other data (transfer.py sources)
    python scripts/studies/search.py rivals data=path/to/bccd.yaml source=others-than-bccd.pt [like=yolo26s-lite] ...
        train what the recommended models are compared with, from the same source: the preset(s), YOLO26n, and
        YOLOv8n shrunk to their latencies
    python scripts/studies/search.py collect [folder=runs/search]
        add the figures and plots to those in docs, and write docs/searches.md

All comparisons are made on the test split, which no search sees. Latency: onnxruntime, one thread. Start a search on a
quiet machine. Run the same command again to continue an interrupted one.
"""

import csv
import random
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from study_bccd import interval, read_rows
from ultralytics import YOLO

from yolo_lite.bench.interleaved import measure
from yolo_lite.choose import choose
from yolo_lite.choose.candidates import Candidate
from yolo_lite.choose.field import Field
from yolo_lite.compare import compare
from yolo_lite.compare.report.search import FILE, read
from yolo_lite.compare.settings import parse
from yolo_lite.compare.significance import differences
from yolo_lite.datasets import shapes
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json, write, write_json

DOCS = Path(__file__).resolve().parents[2] / "docs"
GENERATED = "shapes"
COMMON = {"batch": 16, "nbs": 16}
SMALL = {"imgsz": 128, "epochs": 15}  # for the generated dataset
REAL = {"imgsz": 320, "epochs": 40}
PART = 0.6  # of YOLOv8n's latency is the budget on the generated dataset
SHIPPED = (  # at most 0.75 of YOLOv8n's latency in docs/latency.csv and docs/lite.csv: some will be within the budget
    "yolo26s-lite", "yolo26n-lite", "yolo26n-lite-mnv4", "yolo26s-lite-mnv4", "yolo26n-mnv4", "yolo26n-shufflenetv2",
    "yolo26n-mnasnet", "yolo26n-mnv3", "yolo26n-ghostnet", "yolo11n-mnv4-extradw", "yolo11n-mnv4",
    "yolo11n-shufflenetv2", "yolo11n-mnasnet", "yolo11n-mnv3", "yolo11n-ghostnet", "yolov5n-mnv4", "yolov5n-mnv1",
    "yolov5n-shufflenetv2", "yolov5n-mnv3-small",
)  # fmt: skip
FEW, SEEDS, BEST = [0, 1], list(range(6)), 3  # all shipped configs get a few seeds, the best of them all
DRAWN = 20
ROOM = 1.02  # of a preset's latency is the budget on real datasets, so that the preset itself is within it
PRESETS = ("yolo26s-lite", "yolo26n-lite")
STOCK = Candidate("yolo26", "n", REAL["imgsz"])
MAIN = "mAP50-95"
PLOT = "latency-onnxruntime-fp32-1-thread.svg"
COLUMNS = ("study", "epochs", "source", "group", "model", "imgsz", "milliseconds", "seed", MAIN)
OUTCOMES = ("study", "candidate", "imgsz", "milliseconds", "parameters", "epochs", "score", "outcome")
INTRODUCTION = """\
# Searches

What [`yolo-lite choose`](choose.md) found, on two cores of an x86 CPU; latency in onnxruntime, one
thread, fp32. Written by `scripts/studies/search.py collect` from [searches.csv](searches.csv), one row per run, and
[search-candidates.csv](search-candidates.csv), one row per candidate that a search measured. All accuracies are
mAP50-95, in percent, on a test split that no search saw.
"""


def main(words: list[str]) -> int:
    """Search and train, or collect, as the command line says; return the exit status."""
    _, settings = parse([word for word in words if word not in ("collect", "rivals")])
    folder = Path(settings.pop("folder", "runs/search")).absolute()
    if "collect" in words:
        collect(folder)
        return 0
    data, like = settings.pop("data", None), settings.pop("like", None)
    if data is None:
        raise ConfigError("data: found nothing; needed shapes or a dataset's YAML, like data=path/to/bccd.yaml")
    if data == GENERATED:
        on_generated(folder / GENERATED, settings)
    else:
        common = {**COMMON, **REAL, "data": str(Path(data).absolute()), "parallel": 2, **settings}
        if "rivals" in words:
            rivals(common, [like] if like else PRESETS, folder, f"{Path(data).stem}-rivals")
        else:
            like = like or PRESETS[0]
            on_real(common, like, folder / f"{Path(data).stem}-{like}")
    return 0


def on_generated(folder: Path, settings: Mapping[str, Any]) -> None:
    """Search on the generated dataset; train the shipped configs and drawn candidates within the budget."""
    times = latencies(folder / "latencies.json", ["yolov8n", *SHIPPED], SMALL["imgsz"])
    budget = round(PART * times["yolov8n"], 3)
    data = str(dataset(folder / "dataset"))
    common = {**COMMON, **SMALL, "data": data, "parallel": 2, "project": str(folder), **settings}
    winner = searched({"hours": 1, **common, "budget": budget}, folder)
    test(folder, common)
    (label,) = (Path(path).stem for path in winner)
    shipped = [name for name in SHIPPED if times[name] <= budget and name != label]  # it may be one of them
    against = compared(common, {**dict.fromkeys(shipped, common["imgsz"]), **winner}, "rivals")
    compare({**against, "seeds": with_earlier(folder, {"all": FEW, label: SEEDS})})
    best = sorted(shipped, key=lambda name: -mean(scores(folder / "rivals")[name].values()))[:BEST]
    compare({**against, "seeds": with_earlier(folder, {"all": FEW, **dict.fromkeys([*best, label], SEEDS)})})
    compare({**compared(common, drawn(folder / "search"), "drawn"), "seeds": [0]})


def with_earlier(folder: Path, seeds: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Return the seeds, with those that the models of an earlier search already have."""
    earlier = (read_json(folder / "rivals" / "comparison.json") or {"seeds": {}})["seeds"]
    return {**seeds, **{label: sorted({*own, *seeds.get(label, FEW)}) for label, own in earlier.items()}}


def on_real(common: Mapping[str, Any], like: str, folder: Path) -> None:
    """Search at a model's latency; evaluate the recommended model's runs on the test split."""
    times = latencies(folder / "latencies.json", ["yolov8n", "yolo26n", like], common["imgsz"])
    searched({"hours": 1.5, **common, "project": str(folder), "budget": round(ROOM * times[like], 3)}, folder)
    test(folder, common)


def test(folder: Path, common: Mapping[str, Any]) -> None:
    """Evaluate the recommended model's runs in the search's final comparison on the test split."""
    label, found = str(recommended(folder)), {}
    _, imgsz = model_of(folder / "search", label)
    settings = {"imgsz": imgsz, "batch": common["batch"], "plots": False, "project": str(folder / "tested")}
    for run in sorted((folder / "search" / "finals" / "runs" / label).iterdir()):
        trained = YOLO(run / "weights" / "last.pt")
        found[run.name] = trained.val(data=common["data"], split="test", verbose=False, **settings).box.map
    write_json(folder / "test.json", found)


def rivals(common: Mapping[str, Any], presets: Sequence[str], folder: Path, name: str) -> None:
    """Train presets and their rivals, all from the source if there is one."""
    stock = folder / "models" / f"{STOCK.name}.yaml"
    write(stock, STOCK.text(pretrained="source" in common))
    matched = {"match": "latency", "match_for": [f"{preset}:yolov8n" for preset in presets]}
    models = dict.fromkeys([*presets, str(stock)], common["imgsz"])
    settings = compared({**common, "project": str(folder)}, models, name)
    compare({**settings, **matched, "seeds": FEW + [2]})


def latencies(file: Path, models: Sequence[str], imgsz: int) -> Mapping[str, float]:
    """Return the models' milliseconds, measured interleaved; the file keeps them."""
    known: Mapping[str, float] | None = read_json(file)
    if known is None:
        rows = measure(models, imgsz=imgsz, seconds=4, say=print)
        known = {row.model: row.p50 for row in rows if not row.control}
        write_json(file, known)
    return known


def dataset(folder: Path) -> Path:
    """Draw the generated dataset with a test split; return its YAML."""
    shapes.generate(folder, splits={**shapes.SPLITS, "test": 256})
    splits = "".join(f"{split}: images/{split}\n" for split in (*shapes.SPLITS, "test"))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(shapes.NAMES))
    write(folder / "shapes-test.yaml", f"path: {folder}\n{splits}names:\n{names}")
    return folder / "shapes-test.yaml"


def searched(settings: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Search; return the recommended model's YAML with its image size.

    Raises:
        ConfigError: The search recommends nothing.
    """
    choose({**settings, "name": "search"})
    found = recommended(folder)
    if found is None:
        raise ConfigError(f"{folder / 'search'}: nothing is recommended; raise hours=")
    return dict([model_of(folder / "search", found)])


def recommended(folder: Path) -> str | None:
    """Return the label of the model that the search recommends."""
    found: str | None = read_json(folder / "search" / "finals" / "results.json")["recommendation"]["model"]
    return found


def model_of(search: Path, label: str) -> tuple[str, int]:
    """Return a candidate's YAML and its image size."""
    each = next(each for each in Field.from_plain(read_json(search / "field.json")).predicted if each.label == label)
    return str(search / "candidates" / f"{each.name}.yaml"), each.imgsz


def drawn(search: Path) -> dict[str, int]:
    """Draw candidates within the budget at random, measured or predicted; return their YAMLs with their image sizes."""
    field = Field.from_plain(read_json(search / "field.json"))
    fits = [each for each, predicted in field.predicted.items() if field.times.get(each, predicted) <= field.budget]
    random.Random(0).shuffle(fits)
    once = {each.name: each.label for each in fits}  # a YAML is drawn with one image size only
    return dict(model_of(search, label) for label in list(once.values())[:DRAWN])


def compared(common: Mapping[str, Any], models: Mapping[str, int], name: str) -> dict[str, Any]:
    """Return the settings of a comparison on the test split, without seeds."""
    common = {"pretrained" if key == "source" else key: value for key, value in common.items() if key != "hours"}
    return {**common, "models": list(models), "imgsz": dict(models), "split": "test", "latency": False, "name": name}


def scores(folder: Path) -> dict[str, dict[int, float]]:
    """Return mAP50-95 of a comparison's finished runs, by model and seed."""
    found: dict[str, dict[int, float]] = {}
    for run in read_json(folder / "results.json")["runs"]:
        if "metrics" in run:
            found.setdefault(run["model"], {})[run["seed"]] = run["metrics"][MAIN]
    return found


def collect(folder: Path) -> None:
    """Add what a folder's studies found to docs, replacing earlier results of the same studies; write the page."""
    studies = [path for path in sorted(folder.iterdir()) if is_complete(path)]
    names = {path.name for path in studies}
    add_rows(DOCS / "searches.csv", COLUMNS, names, [row for path in studies for row in runs_of(path)])
    add_rows(DOCS / "search-candidates.csv", OUTCOMES, names, [row for path in studies for row in candidates_of(path)])
    for path in studies:
        plot = path / "search" / "finals" / "plots" / PLOT
        write(DOCS / "assets" / f"search-{path.name}.svg", plot.read_text("utf-8"))
    write(DOCS / "searches.md", page(DOCS))


def is_complete(study: Path) -> bool:
    """Return whether a folder holds a search and what its model is compared with."""
    if not (study / "search" / "finals" / "results.json").exists():
        return False
    groups = {row[3:5] for row in runs_of(study)}
    like = study.name.partition("-")[2]
    return any(group == "rivals" and like in (model, "") for group, model in groups)


def rivals_of(study: Path) -> Path:
    """Return the folder of the comparison that has a study's rivals; searches on the same dataset share it."""
    return study / "rivals" if study.name == GENERATED else study.parent / f"{study.name.partition('-')[0]}-rivals"


def add_rows(file: Path, header: Sequence[str], studies: Collection[str], rows: Sequence[Sequence[object]]) -> None:
    """Add rows to a CSV file, in place of all rows of their studies."""
    kept = [tuple(row.values()) for row in read_rows(file) if row["study"] not in studies]
    with file.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows([header, *kept, *rows])


def runs_of(study: Path) -> Iterator[tuple[object, ...]]:
    """Yield a row for each run that was evaluated on the test split."""
    field = Field.from_plain(read_json(study / "search" / "field.json"))
    label = str(recommended(study))
    name, winner = Path(model_of(study / "search", label)[0]).stem, model_of(study / "search", label)[1]
    known = {(each.name, each.imgsz): field.times.get(each, told) for each, told in field.predicted.items()}
    winners = {int(seed): value for seed, value in (read_json(study / "test.json") or {}).items()}
    for group, folder in (("rivals", rivals_of(study)), ("drawn", study / "drawn")):
        if not (folder / "results.json").exists():
            continue
        comparison = read_json(folder / "results.json")["comparison"]
        times = known | same_latency(study, comparison)
        for model, by_seed in scores(folder).items():
            imgsz = comparison["models"][model].get("imgsz") or comparison["train"]["imgsz"]
            if study.name == GENERATED and group == "rivals" and f"{model}-{imgsz}" == label:
                winners |= by_seed  # more seeds
            elif study.name == GENERATED or (model, imgsz) in times:
                for seed, value in by_seed.items():
                    yield row(study, group, model, imgsz, times, seed, value)
    for seed, value in winners.items():
        yield row(study, "recommended", name, winner, known, seed, value)


def row(
    study: Path, group: str, model: str, imgsz: int, times: Mapping[tuple[str, int], float], seed: object, value: float
) -> tuple[object, ...]:
    """Return a row of `searches.csv`."""
    time, settings = times.get((model, imgsz)), read_json(study / "search" / "choose.json")
    source = Path(settings["source"]).stem if settings["source"] else ""
    setting = study.name, settings["train"]["epochs"], source
    return *setting, group, model, imgsz, "" if time is None else f"{time:.2f}", seed, f"{value:.4f}"


def same_latency(study: Path, comparison: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    """Return the latencies of a study's rivals: those measured, and that of the model shrunk to the same latency."""
    measured = read_json(study / "latencies.json") or {}
    imgsz = comparison["train"]["imgsz"]
    found = {(model, imgsz): time for model, time in measured.items()}
    for model, record in comparison["models"].items():
        for like, match in ((record.get("size_matched") or {}).get("match_for") or {}).items():
            if like in measured:
                found[model, imgsz] = match["ratio"] * measured[like]
    return found


def candidates_of(study: Path) -> Iterator[tuple[object, ...]]:
    """Yield a row for each candidate that a search measured."""
    search = read(study / "search" / "finals")
    if search is None:
        raise ConfigError(f"{study / 'search' / 'finals' / FILE}: there is no such file")
    for row in search.rows:
        figures = ["" if value is None else f"{value:.{digits}f}" for value, digits in ((row.time, 2), (row.score, 4))]
        yield study.name, row.label, row.imgsz, figures[0], f"{row.parameters:.2f}", row.epochs, figures[1], row.outcome


def page(docs: Path = DOCS) -> str:
    """Return the page on what the searches found."""
    runs, candidates = (read_rows(docs / f"{name}.csv") for name in ("searches", "search-candidates"))
    sections = []
    for study in dict.fromkeys(row["study"] for row in runs):
        own, tried = ([row for row in rows if row["study"] == study] for rows in (runs, candidates))
        found = [setting(own[0]), "", *table(own), "", *sentences(own, tried)]
        sections.append("\n".join([f"## {study}", "", *found, ""]))
        sections.append(f"![The search's finalists](assets/search-{study}.svg)\n")
    return "\n".join([INTRODUCTION, *sections])


def setting(run: Mapping[str, str]) -> str:
    """Say what the search of a run's study searched for."""
    data, _, like = run["study"].partition("-")
    epochs = f"{run['epochs']} epochs"
    if data == GENERATED:
        return (
            f"Generated dataset, at most {SMALL['imgsz']} px, {epochs} from random weights; budget: {PART} of "
            f"YOLOv8n's latency. Compared with our configs within the budget."
        )
    start = "a YOLOv8n trained on the other two datasets" if run["source"] else "random weights"
    return f"{data}, at most {REAL['imgsz']} px, {epochs} from {start}; budget: {ROOM} of the latency of `{like}`."


def by_model(rows: Sequence[Mapping[str, str]], *groups: str) -> dict[str, dict[int, float]]:
    """Return mAP50-95 by model and seed."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["group"] in groups:
            found.setdefault(row["model"], {})[int(row["seed"])] = float(row[MAIN])
    return found


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a row for the recommended model and each of its rivals, the most accurate first."""
    found = by_model(rows, "recommended", "rivals")
    (winner,) = by_model(rows, "recommended")
    different = differences(found, {model: winner for model in found if model != winner})
    lines = ["| model | image size | latency, ms | seeds | mAP50-95 | vs. recommended, 95 % interval |"]
    lines.append("|---" * 6 + "|")
    for model in sorted(found, key=lambda model: -mean(found[model].values())):
        row = next(row for row in rows if row["model"] == model)
        values = [100 * value for value in found[model].values()]
        change = interval(different[model]._asdict()) if model in different else "**recommended**"
        cells = row["imgsz"], row["milliseconds"], len(values), f"{mean(values):.1f} ± {stdev(values):.1f}", change
        lines.append(f"| {' | '.join([f'`{model}`', *map(str, cells)])} |")
    return lines


def sentences(rows: Sequence[Mapping[str, str]], candidates: Sequence[Mapping[str, str]]) -> list[str]:
    """Say how many candidates there were, and how candidates drawn at random compare with the recommended one."""
    trained = [row for row in candidates if row["epochs"] != "0"]
    final = [row for row in candidates if row["outcome"] == "finalist"]
    lines = [f"Measured: {len(candidates)} candidates; trained: {len(trained)}; finalists: {len(final)}."]
    drawn_ones = {model: 100 * mean(seeds.values()) for model, seeds in by_model(rows, "drawn").items()}
    if drawn_ones:
        ((winner, seeds),) = by_model(rows, "recommended").items()
        ahead = sum(value > 100 * mean(seeds.values()) for model, value in drawn_ones.items() if model != winner)
        values = drawn_ones.values()
        lines.append(
            f"{len(values)} candidates within the budget, drawn at random, one seed each: {mean(values):.1f} on "
            f"average, from {min(values):.1f} to {max(values):.1f}; {ahead} other than the recommended one "
            f"{'is' if ahead == 1 else 'are'} ahead of its mean."
        )
    return lines


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"search: {error}")
