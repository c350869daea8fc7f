"""Run the studies on BCCD, 364 photographs of blood cells, with all models trained from scratch.

    backbones        lightweight backbones in YOLOv5n and YOLOv8n against the stock models; in docs/study-bccd
    lite             the preset yolo26s-lite against YOLOv8n, YOLO26n, and YOLOv8n shrunk to the preset's latency;
                     in docs/study-lite
    lite-longer      the preset with three times the epochs; in docs/study-lite-longer
    lite-teacher     YOLOv8s, the teacher of lite-distilled
    lite-distilled   the preset, distilled from lite-teacher; in docs/study-lite-distilled

    python scripts/studies/study_bccd.py data=path/to/bccd.yaml [study=backbones] [folder=runs/study-bccd] [parallel=2]
        train the remaining runs
    python scripts/studies/study_bccd.py data=path/to/bccd.yaml latency=True
        the same, then time the models (requires an idle machine)
    python scripts/studies/study_bccd.py collect [study=backbones] [folder=runs/study-bccd]
        write the report in that folder, copy its results and one plot to docs, and write the findings of all studies
        into the pages

It may be interrupted at any time: the first command resumes from its folder. docs holds a study's results, not its
runs, so a study cannot resume from there: without its folder it starts anew. A new `lite` study times shrunk models
before it trains: start it on an idle machine.
Dataset: github.com/Shenggan/BCCD_Dataset, with boxes in YOLO format. 40 epochs, batch and `nbs` 16 (with Ultralytics'
nbs=64, the 205 training images would give three optimizer steps per epoch), weights of the last epoch, test split.
"""

import csv
import json
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from yolo_lite.compare import compare, write_report
from yolo_lite.compare.report.data_files import headline
from yolo_lite.compare.report.results import read_results
from yolo_lite.compare.settings import parse
from yolo_lite.compare.significance import differences
from yolo_lite.errors import ConfigError
from yolo_lite.files import between, write, write_json

Results = dict[str, Any]  # content of results.json
Lines = list[str]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PRESET = "yolo26s-lite"
SWAPPED = ["yolov8n-mnv3", "yolov8n-mnv4", "yolov8n-mnv4-extradw"]
WITH_ASPP = [
    f"yolov5n-{family}-aspp"
    for family in ("mnasnet", "mnv1", "mnv2", "mnv3", "ghostnet", "shufflenetv1", "shufflenetv2")
]
THREE, SIX = list(range(3)), list(range(6))
BY_TIME, OVER_EPOCHS = "latency-onnxruntime-fp32-1-thread", "curve-mAP50-95"
STUDIES = {  # `folder` and `plot` (the one copied to docs) are used by this script; the rest are settings of `compare`
    "backbones": {
        "folder": "study-bccd",
        "plot": BY_TIME,
        "models": ["yolov8n", "yolov5n", *SWAPPED, *WITH_ASPP],
        "seeds": {"all": THREE, **dict.fromkeys(["yolov8n", *SWAPPED], SIX)},  # a size-matched one uses its model's
        "match": "gflops",
        "match_for": ["yolov8n-mnv3"],
        "imgsz": 256,
        "baseline": "yolov8n",
    },
    "lite": {
        "folder": "study-lite",
        "plot": BY_TIME,
        "models": ["yolov8n", "yolo26n", PRESET],
        "seeds": SIX,
        "match": "latency",
        "match_for": [f"{PRESET}:yolov8n"],
        "imgsz": 320,
        "baseline": "yolov8n",
    },
    "lite-longer": {
        "folder": "study-lite-longer",
        "plot": OVER_EPOCHS,
        "models": [PRESET],
        "seeds": THREE,
        "imgsz": 320,
        "epochs": 120,
    },
    "lite-teacher": {
        "folder": "study-lite-teacher",
        "plot": OVER_EPOCHS,
        "models": ["yolov8s"],
        "seeds": [0],
        "imgsz": 320,
    },
    "lite-distilled": {
        "folder": "study-lite-distilled",
        "plot": OVER_EPOCHS,
        "models": [PRESET],
        "seeds": THREE,
        "imgsz": 320,
        "distill_model": "study-lite-teacher/runs/yolov8s/0/weights/last.pt",  # next to this study's folder
    },
}
RECIPES = {
    "lite": "40 epochs",
    "lite-longer": "120 epochs",
    "lite-distilled": "40 epochs, distilled from YOLOv8s trained with the same settings",
}
ONLY_THE_PAGE = {  # keys of a run used by the report page only: curves alone are two thirds of a file
    *("curves", "settings", "attempts", "wall_seconds", "evaluate_seconds", "evaluate_cpu_seconds"),
}


def main(words: list[str]) -> int:
    """Run the command given on the command line: train or collect; return the exit status."""
    collecting = "collect" in words
    _, settings = parse([word for word in words if word != "collect"])
    kind = settings.pop("study", "backbones")
    if kind not in STUDIES:
        raise ConfigError(f"study={kind}: needs one of {', '.join(STUDIES)}")
    study = dict(STUDIES[kind])
    name, plot = study.pop("folder"), study.pop("plot")
    folder = Path(settings.pop("folder", f"runs/{name}")).absolute()
    if collecting:
        print(headline(keep(folder, DOCS / name, plot)))
        write_findings()
        return 0
    return train(folder, study, settings)


def train(folder: Path, study: dict[str, Any], settings: dict[str, Any]) -> int:
    """Train the remaining runs of a study in its folder; return the exit status."""
    data = Path(settings.pop("data", "bccd.yaml")).absolute()
    if data.exists():  # so that the recorded commands name the dataset without a path of this machine
        os.chdir(data.parent)
    if "distill_model" in study:
        study["distill_model"] = os.path.relpath(folder.parent / study["distill_model"])
    outcome = compare(
        {
            "epochs": 40,
            **study,
            "data": data.name,
            "split": "test",
            "parallel": 2,
            "latency": False,
            "project": str(folder.parent),
            "name": folder.name,
            "batch": 16,
            "nbs": 16,
            **settings,
        }
    )
    return 1 if outcome.failed else 0


def keep(folder: Path, kept: Path, plot: str) -> Any:
    """Write a comparison's report in its folder, and copy its results and one plot to the docs folder `kept`.

    Raises:
        ConfigError: The folder holds no comparison, or no finished run.
    """
    results = write_report(folder)
    write_kept(results.to_plain(), kept)
    for file in ("results.csv", "summary.md", f"plots/{plot}.svg"):
        write(kept / Path(file).name, without_folders((folder / file).read_text("utf-8")))
    return results


def write_kept(results: Results, kept: Path) -> None:
    """Write comparison.json and results.json without the data that only the report page needs."""
    small = json.loads(without_folders(json.dumps(reduced(results))))
    write_json(kept / "comparison.json", small["comparison"])
    write_json(kept / "results.json", small)


def without_folders(text: str) -> str:
    """Return a text with absolute paths of the training machine shortened to their file names."""
    return re.sub(r"(?<![\w.:/<-])/(?:[\w.+-]+/)+(?=[\w.+-])", "", text)


def reduced(results: Results) -> Results:
    """Return results without the data that only the report page needs.

    Removes the curves over epochs, the per-class metrics of each run (the means of each model stay), how runs were
    started, the duplicate of the latency measurements, and the boxes of the sample images, which are the dataset's.
    """
    runs = []
    for run in results["runs"]:
        run = {key: value for key, value in run.items() if key not in ONLY_THE_PAGE}
        if "metrics" in run:
            run["metrics"] = {key: value for key, value in run["metrics"].items() if key != "classes"}
        runs.append(run)
    latency = results["latency"] and {k: v for k, v in results["latency"].items() if k != "measurements"}
    comparison = {**results["comparison"], "samples": []}
    return {**results, "comparison": comparison, "runs": runs, "latency": latency}


def write_findings() -> None:
    """Write the findings of the studies into the pages."""
    for (page, mark), lines in findings().items():
        write(ROOT / page, between((ROOT / page).read_text("utf-8"), mark, lines))


def findings(docs: Path = DOCS) -> dict[tuple[str, str], Lines]:
    """Return the findings of the finished studies: lines by page and marker."""
    results = {kind: read_results(docs / study["folder"]) for kind, study in STUDIES.items()}
    found = {}
    if results["backbones"]:
        found["docs/study.md", "study"] = base_table(results["backbones"])
        found["README.md", "study"] = found["docs/study.md", "study"][-1:]
        found["docs/study.md", "size-matched"] = size_matched_table(results["backbones"])
        found["docs/study.md", "classes"] = class_table(results["backbones"])
        found["docs/study.md", "start"] = start_table(results["backbones"], docs / "study-bccd" / "pytorch-start.csv")
    if results["lite"]:
        found["README.md", "lite-study"] = [preset_sentence(results["lite"])]
        found["docs/lite.md", "study"] = table(results["lite"]) + preset_lines(results["lite"])
        if lines := ncnn_lines(results["lite"]):
            found["docs/which.md", "ncnn"] = lines
        recipes = {kind: results[kind] for kind in RECIPES if results[kind]}
        found["docs/lite.md", "recipes"] = recipe_lines(recipes)
    return found


def ncnn_lines(results: Results) -> Lines:
    """Return the latency of the preset and its baseline in NCNN, the usual runtime on a Raspberry Pi, if measured."""
    baseline = results["comparison"]["baseline"]
    times = {
        label: row["p50"]
        for label in (PRESET, baseline)
        for row in results["models"][label]["latency"]
        if row["runtime"] == "ncnn"
    }
    took = " and ".join(f"{time:.1f} ms for `{label}`" for label, time in times.items())
    pixels = results["comparison"]["train"]["imgsz"]
    return [f"On an x86 CPU (one thread, {pixels} px), NCNN took {took}."] if times else []


def table(results: Results) -> Lines:
    """Return a table with a row for each model, most accurate first."""
    baseline = results["comparison"]["baseline"]
    lines = [
        f"| model | parameters | GFLOPs | seeds | mAP50 | mAP50-95 | vs. {baseline}, 95 % interval | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label in by_accuracy(results):
        model = results["models"][label]
        lines.append(row(label, *costs(model), *accuracy(model), *shown(model["difference"].get("mAP50-95"))))
    return lines


def base_table(results: Results) -> Lines:
    """Return a table of the models grouped by base, with latency and accuracy relative to it, most accurate first."""
    models, labels = results["models"], by_accuracy(results)
    to_base = {label: base_of(label) for label in labels if label != base_of(label)}
    found = compared(results, to_base)
    lines = [
        "| model | parameters | GFLOPs | time / base | seeds | mAP50 | mAP50-95 | vs. base, 95 % interval | verdict |",
        "|---" * 9 + "|",
    ]
    baseline = results["comparison"]["baseline"]
    for label in sorted(labels, key=lambda label: (base_of(label) != baseline, label in to_base)):
        time, bases = (milliseconds(models[each]) for each in (label, base_of(label)))
        ratio = f"{time / bases:.2f}" if time and bases else ""
        lines.append(row(label, *costs(models[label]), ratio, *accuracy(models[label]), *shown(found.get(label))))
    return [*lines, "", base_sentence(found, {*results["size_matched"].values()})]


def base_sentence(found: Mapping[str, dict[str, Any]], shrunk: Collection[str] = ()) -> str:
    """Return a summary of the differences to the bases, {model: difference}, in words, without the shrunk models."""
    swapped = {label: each for label, each in found.items() if label not in shrunk}
    losses = sorted(-100 * each["mean"] for each in swapped.values() if each["mean"] < 0)
    sure = [each for each in swapped.values() if each["high"] is not None and each["high"] < 0]
    shown_for = [f"`{label}`" for label, each in swapped.items() if each["verdict"] == "worse"]
    text = f"{len(losses)} of {len(swapped)} models with another backbone are less accurate than their bases on average"
    return (
        f"{text}{f', by {losses[0]:.1f} to {losses[-1]:.1f} points of mAP50-95' if losses else ''}; {len(sure)} of the "
        f"unadjusted 95 % intervals lie below 0. Adjusted for all {len(found)} comparisons "
        f"(Holm), {'the losses of ' + ', '.join(shown_for) + ' are' if shown_for else 'no loss is'} statistically "
        "significant."
    )


def size_matched_table(results: Results) -> Lines:
    """Compare the swapped models with size-matched baselines of the same base, if GFLOPs are equal within 2 %."""
    models = results["models"]
    pairs = {
        label: matched
        for matched in set(results["size_matched"].values())
        for label in models
        if base_of(label) == base_of(matched) and label != matched
        and abs(models[label]["gflops"] / models[matched]["gflops"] - 1) < 0.02
    }  # fmt: skip
    lines = [
        "| model | GFLOPs | size-matched baseline | GFLOPs | vs. baseline, mAP50-95, 95 % interval | verdict |",
        "|---" * 6 + "|",
    ]
    for label, difference in compared(results, pairs).items():
        ours, its = (f"{models[each]['gflops']:.2f}" for each in (label, pairs[label]))
        lines.append(row(label, ours, f"`{pairs[label]}`", its, *shown(difference)))
    return lines


def class_table(results: Results) -> Lines:
    """Return a table of each class's mAP50, as the mean over seeds, most accurate models first."""
    names = results["comparison"]["data"]["classes"]
    lines = [f"| mAP50 of | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for label in by_accuracy(results):
        classes = results["models"][label]["classes"]
        lines.append(row(label, *(f"{100 * classes[name]['mAP50']:.1f}" for name in names)))
    return lines


def start_table(results: Results, file: Path) -> Lines:
    """Compare the models with the same models under PyTorch's default initialisation, over the seeds that both have.

    Args:
        results: Results of the study.
        file: CSV file with the metrics of the runs with PyTorch's initialisation, with the columns model, seed, mAP50
            and mAP50-95; recorded once, before `start_evenly` was added.
    """
    values, before = {label: values_of(results, label) for label in results["models"]}, {}
    with open(file, encoding="utf-8") as text:
        for run in csv.DictReader(text):
            before.setdefault(run["model"], {})[int(run["seed"])] = float(run["mAP50-95"])
    former = {label: f"{label}, before" for label in before}
    found = differences(values | {former[label]: seeds for label, seeds in before.items()}, former)
    lines = ["| model | seeds | PyTorch's initialisation | yolo_lite's | difference, 95 % interval |", "|---" * 5 + "|"]
    for label in sorted(found, key=lambda label: -found[label].mean):
        means = [100 * sum(each[seed] for seed in found[label].seeds) / len(found[label].seeds)
                 for each in (before[label], values[label])]  # fmt: skip
        means = (f"{mean:.1f}" for mean in means)
        lines.append(row(label, len(found[label].seeds), *means, interval(found[label]._asdict())))
    return lines


def read_rows(file: Path) -> list[dict[str, str]]:
    """Read a CSV file; return no rows if there is none."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def by_accuracy(results: Results) -> list[str]:
    """Return the names of the models, most accurate first."""
    models = results["models"]
    return sorted(models, key=lambda label: -models[label]["metrics"]["mAP50-95"]["mean"])


def base_of(label: str) -> str:
    """Return the name of the stock model that a model of these studies is based on."""
    return label.split("-")[0]  # also for a size-matched baseline, such as yolov8n-w0.5


def compared(results: Results, pairs: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the differences in mAP50-95 between pairs of models, adjusted as one family of tests."""
    values = {label: values_of(results, label) for label in results["models"]}
    return {label: found._asdict() for label, found in differences(values, pairs).items()}


def milliseconds(model: dict[str, Any]) -> float | None:
    """Return the median latency in onnxruntime, fp32, one thread, in milliseconds; None if it was not measured."""
    times = {(each["runtime"], each["precision"], each["threads"]): each["p50"] for each in model["latency"]}
    return times.get(("onnxruntime", "fp32", 1))


def row(label: str, *cells: object) -> str:
    """Return a model's row of a Markdown table."""
    return f"| {' | '.join([f'`{label}`', *map(str, cells)])} |"


def costs(model: dict[str, Any]) -> tuple[str, str]:
    """Return the cells of parameters and GFLOPs."""
    return f"{model['parameters'] / 1e6:.2f} M", f"{model['gflops']:.2f}"


def accuracy(model: dict[str, Any]) -> tuple[object, ...]:
    """Return the cells of seeds, mAP50 and mAP50-95."""
    return len(model["seeds"]), *(points(model["metrics"][metric]) for metric in ("mAP50", "mAP50-95"))


def shown(difference: dict[str, Any] | None) -> tuple[str, str]:
    """Return the cells of a difference and its verdict."""
    return (interval(difference), difference["verdict"]) if difference else ("", "")


def points(figure: dict[str, Any]) -> str:
    """Return mean and standard deviation in points, such as `56.6 ± 0.7`."""
    return f"{100 * figure['mean']:.1f}" + (f" ± {100 * figure['sd']:.1f}" if figure["sd"] is not None else "")


def interval(difference: dict[str, Any]) -> str:
    """Return a difference and its interval in points, such as `-1.3 (-2.5 to -0.1)`."""
    text = f"{100 * difference['mean']:+.1f}"
    ends = [100 * difference[key] for key in ("low", "high") if difference[key] is not None]  # None with one seed
    return text + (f" ({ends[0]:+.1f} to {ends[1]:+.1f})" if ends else "")


def values_of(results: Results, label: str) -> dict[int, float]:
    """Return a model's mAP50-95 by seed."""
    return {
        run["seed"]: run["metrics"]["mAP50-95"] for run in results["runs"] if run["model"] == label and "metrics" in run
    }


def preset_lines(results: Results) -> Lines:
    """Return a table that compares the lite preset with its accuracy targets."""
    lines = ["", f"| `{PRESET}` against | mAP50-95, 95 % interval | target | |", "|---|---|---|---|"]
    for other, wanted, reached in (
        (results["size_matched"][PRESET], "the interval above 0", lambda found: (found["low"] or 0) > 0),
        ("yolo26n", "the interval above 0", lambda found: (found["low"] or 0) > 0),
        ("yolov8n", "at most 1.0 below", lambda found: found["mean"] >= -0.01),
    ):
        found = compared(results, {PRESET: other})[PRESET]
        verdict = "reached" if reached(found) else "**not reached**"
        lines.append(f"| `{other}` | {interval(found)} | {wanted} | {verdict} |")
    return lines


def preset_sentence(results: Results) -> str:
    """Return a sentence with the accuracy of the lite preset and the other models, most accurate first."""
    models = results["models"]
    figures = (
        f"`{label}` {points(models[label]['metrics']['mAP50-95'])}"
        + verdict(models[label]["difference"].get("mAP50-95"))
        for label in by_accuracy(results)
    )
    seeds = min(len(model["seeds"]) for model in models.values())
    return f"mAP50-95, {seeds} seeds: {', '.join(figures)}."


def verdict(difference: dict[str, Any] | None) -> str:
    """Return the verdict in parentheses, such as ` (worse)`; an empty string if there is no difference."""
    return f" ({difference['verdict']})" if difference else ""


def recipe_lines(results: Mapping[str, Results]) -> Lines:
    """Return a table that compares training recipes of the lite preset with the default one, which comes first."""
    values = {kind: values_of(each, PRESET) for kind, each in results.items()}
    found = differences(values, {kind: "lite" for kind in results if kind != "lite"})
    lines = [
        "| training, from scratch | seeds | mAP50 | mAP50-95 | vs. the first, 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for kind, each in results.items():
        model = each["models"][PRESET]
        figures = " | ".join(points(model["metrics"][metric]) for metric in ("mAP50", "mAP50-95"))
        change = interval(found[kind]._asdict()) if kind in found else ""
        lines.append(f"| {RECIPES[kind]} | {len(model['seeds'])} | {figures} | {change} |")
    return lines


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"study_bccd: {error}")
