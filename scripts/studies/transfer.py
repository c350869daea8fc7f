"""Study of the weight transfer: how much accuracy a model retains, and how much training gains, with controls.

    python scripts/studies/transfer.py sources data=bccd.yaml,aquarium.yaml,aircars.yaml
        train YOLOv8n on the training split of each dataset, and on those of all other datasets together
    python scripts/studies/transfer.py retention data=bccd.yaml,... [models=...] [methods=...] [split=val] [after=0]
        without labels or gradient steps: mAP of a dataset's source, and of each model after the transfer, by method;
        after=8: mAP after training for 8 more epochs (13 steps each on BCCD)
    python scripts/studies/transfer.py gain data=bccd.yaml,... [models=...] [starts=...] [seeds=0,1,2]
        train each model from each start: random; transfer, from the source of the other datasets; mimicked, the same
        after 5 minutes of mimicking; imagenet and imagenet+transfer, with ImageNet weights in the backbone; and the
        controls: untrained and shuffled (other sources), without-regression. NAME@ALPHA: another width of the
        backbone; NAME-wWIDTH: a shrunk stock model
    python scripts/studies/transfer.py tables
        print the results so far
    python scripts/studies/transfer.py collect
        add the results to docs/transfer.csv and docs/transfer-gain.csv, and write them into docs/transfer.md

All results are stored in one folder (folder=runs/transfer): the same command resumes after an interruption. `gain` also
skips runs that docs/transfer-gain.csv has. jobs=2 runs two trainings at once; minutes=10 stops after 10 minutes;
precision=bf16 trains with autocast, about 1.8 times faster on CPUs that compute in bfloat16. 320 px, batch and nbs 16,
weights of the last epoch; 100 epochs for sources of one dataset, 60 for sources of several, 40 for the others. Settings
are tuned on split=val; split=test is evaluated only once.
"""

import itertools
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
import yaml
from study_bccd import interval, read_rows
from study_pretrained import weights_file

from yolo_lite.commands import transfer as command
from yolo_lite.compare.baselines import shrunk, write_yaml
from yolo_lite.compare.significance import differences
from yolo_lite.datasets.images import check_data, files_of
from yolo_lite.files import between, read_json, write, write_json
from yolo_lite.options import COMMANDS
from yolo_lite.ultralytics_hooks.configs import configs, without_letter
from yolo_lite.weights import transfer as transferring
from yolo_lite.weights.fitting import Method

METHODS = {  # name -> transfer method to compare
    "transfer": Method(),
    "explained": Method(choice="explained"),
    "gamma": Method(choice="gamma"),
    "even": Method(choice="even"),
    "unweighted": Method(weighted=False),
    "norm-copied": Method(norm="copied"),
    "without-regression": Method(regress=False, norm="copied"),
}
SOURCE = "yolov8n"
CONTROLS = ("untrained", "shuffled", "without-regression")
STARTS = ("random", "transfer", "mimicked", "imagenet", "imagenet+transfer", *CONTROLS)
MIMICKED = 5  # minutes of mimicking
RECIPE = {"imgsz": 320, "batch": 16, "nbs": 16, "plots": False, "val": False, "amp": False}
DEFAULTS = {
    "data": "", "folder": "runs/transfer", "models": "yolo26s-lite,yolov8n", "methods": "transfer", "images": "128",
    "starts": "random,transfer", "seeds": "0,1,2,3,4,5", "split": "val", "device": "cpu", "workers": "2",
    "cache": "", "epochs": "40", "source_epochs": "100", "others_epochs": "60", "jobs": "1", "minutes": "0", "task": "",
    "after": "0", "precision": "fp32",
}  # fmt: skip
SPLITS = ("val", "test")
DOCS = Path(__file__).resolve().parents[2] / "docs"
COLUMNS = ("data", "split", "model", "method", "mAP50", "mAP50-95")
GAINS = ("data", "model", "start", "seed", "epochs", "precision", "val", "test")  # mAP50-95 on two splits


class Task(NamedTuple):
    """A training run: of a source, or of a model from given initial weights."""

    kind: str  # "source" or "gain"
    data: str  # path of the dataset's YAML; with a leading +: all datasets except this one
    model: str = SOURCE
    start: str = "random"
    seed: int = 0

    def __str__(self) -> str:
        name = ("others-than-" if self.data.startswith("+") else "") + Path(self.data).stem
        return f"{self.kind}-{name}" if self.kind == "source" else f"{name}-{self.model}-{self.start}-{self.seed}"


def main(words: list[str]) -> int:
    """Run the command given on the command line; return the exit status."""
    what, *rest = words or [""]
    given = {**DEFAULTS, **dict(word.split("=", 1) for word in rest)}
    folder = Path(given["folder"]).absolute()
    if what not in ("sources", "retention", "gain", "tables", "collect") or set(given) != set(DEFAULTS):
        sys.exit(__doc__)
    folder.mkdir(parents=True, exist_ok=True)
    data = [str(Path(each).absolute()) for each in given["data"].split(",") if each]
    if what == "collect":
        collect(folder)
        return 0
    if what == "retention":
        retention(data, given, folder)
    elif what != "tables":
        tasks = sources(data) if what == "sources" else gains(data, given)
        if given["task"]:
            train(next(task for task in tasks if str(task) == given["task"]), data, given, folder)
        else:
            return run(tasks, words, given, folder)
    print_tables(folder)
    return 0


def sources(data: Sequence[str]) -> list[Task]:
    """Return the training tasks of the sources, the longest first."""
    return [Task("source", f"+{each}") for each in data if len(data) > 1] + [Task("source", each) for each in data]


def gains(data: Sequence[str], given: dict[str, str]) -> list[Task]:
    """Return the training tasks of the `gain` command, ordered by seed."""
    models, starts, seeds = (given[key].split(",") for key in ("models", "starts", "seeds"))
    if not {*starts} <= {*STARTS}:
        sys.exit(f"starts={given['starts']}: needed some of {', '.join(STARTS)}")
    every = itertools.product(map(int, seeds), data, models, starts)
    return [Task("gain", each, model, start, seed) for seed, each, model, start in every]


def run(tasks: Sequence[Task], words: Sequence[str], given: dict[str, str], folder: Path) -> int:
    """Run each unfinished task in its own process, `jobs` at a time; return the number of failed tasks."""
    waiting = left(tasks, folder)
    ends = time.monotonic() + (60 * float(given["minutes"]) or float("inf"))
    running: dict[Task, subprocess.Popen[bytes]] = {}
    failed = 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if int(given["jobs"]) > 1 else dict(os.environ)
    while (waiting or running) and time.monotonic() < ends:
        while waiting and len(running) < int(given["jobs"]):
            task = waiting.pop(0)
            with (folder / f"{task}.log").open("ab") as log:
                call = [sys.executable, __file__, *words, f"task={task}"]
                running[task] = subprocess.Popen(call, stdout=log, stderr=log, env=environment)
        time.sleep(0.5)
        for task in [task for task, process in running.items() if process.poll() is not None]:
            status = running.pop(task).returncode
            failed += status != 0
            print(f"{task}: {'done' if status == 0 else f'failed, see {task}.log'}; {len(waiting)} wait", flush=True)
    for process in running.values():
        process.terminate()
    return failed


def left(tasks: Sequence[Task], folder: Path) -> list[Task]:
    """Return the tasks whose results are neither in the folder nor in docs."""
    known = {tuple(row[key] for key in GAINS[:4]) for row in read_rows(DOCS / "transfer-gain.csv")}
    found = []
    for task in tasks:
        key = Path(task.data).stem, task.model, task.start, str(task.seed)
        if not (folder / f"{task}.json").exists() and (task.kind == "source" or key not in known):
            found.append(task)
    return found


def train(task: Task, data: Sequence[str], given: dict[str, str], folder: Path) -> None:
    """Start or resume the training of a task, evaluate the weights of the last epoch, and write the results."""
    from ultralytics import YOLO

    last = folder / str(task) / "weights" / "last.pt"
    where = task.data if not task.data.startswith("+") else str(merged([d for d in data if d != task.data[1:]], folder))
    settings: dict[str, Any] = {**RECIPE, "data": where, "seed": task.seed, "device": given["device"]}
    settings |= {"project": str(folder), "name": str(task), "exist_ok": True, "workers": int(given["workers"])}
    length = "epochs" if task.kind == "gain" else "others_epochs" if task.data.startswith("+") else "source_epochs"
    settings |= {"epochs": int(given[length])}
    settings |= {"cache": given["cache"] or False, "deterministic": given["device"] == "cpu"}
    if last.exists() and torch.load(last, weights_only=False)["epoch"] >= 0:
        in_precision(YOLO(last), given["precision"]).train(resume=True)
    elif not last.exists():
        model, pretrained = began(task, given, folder)
        in_precision(YOLO(model), given["precision"]).train(**settings, pretrained=pretrained)
    found = {} if task.data.startswith("+") else {split: score(last, task.data, split, given) for split in SPLITS}
    recipe = {"data": Path(task.data).stem, "epochs": settings["epochs"], "precision": given["precision"]}
    write_json(folder / f"{task}.json", {**task._asdict(), **recipe, **found})


def began(task: Task, given: dict[str, str], folder: Path) -> tuple[str, str | bool]:
    """Return what a task's training begins with: the model, and Ultralytics' argument `pretrained`."""
    model = model_of(task, folder)
    if task.start in ("random", "imagenet"):
        return model, False
    if task.start not in ("mimicked", "without-regression"):
        return model, str(source_of(task, folder))
    out = folder / f"{task}.pt"
    source = folder / str(Task("source", f"+{task.data}")) / "weights" / "last.pt"
    method, minutes = METHODS.get(task.start, Method()), MIMICKED if task.start == "mimicked" else 0
    return str(moved(source, task.data, model, method, given, out, minutes, task.seed)), True


def model_of(task: Task, folder: Path) -> str:
    """Return a task's YAML; one of another width, or with ImageNet weights in its backbone, is written first."""
    base, _, width = task.model.partition("-w")
    if width:
        return str(write_yaml(shrunk(base, float(width)), folder, task.model, pretrained=True))
    name, _, alpha = task.model.partition("@")
    weights = weights_file() if task.start.startswith("imagenet") else None
    if not alpha and weights is None:
        return f"{name}.yaml"
    text = configs()[without_letter(f"{name}.yaml")].read_text("utf-8")
    text = re.sub(r"^backbone_weights: .*", f"backbone_weights: {weights or 'null'}", text, flags=re.M)
    if alpha:
        text = re.sub(r"^backbone_width: .*", f"backbone_width: {alpha}", text, flags=re.M)
    parts = [name, *([f"a{alpha.replace('.', 'p')}"] if alpha else []), *(["imagenet"] if weights else [])]
    path = folder / f"{'-'.join(parts)}.yaml"
    write(path.with_name(without_letter(path.name)), text)
    return str(path)


def in_precision(yolo: Any, precision: str) -> Any:
    """Let a model train with bfloat16 autocast on a CPU, for which Ultralytics has no `amp`; return it."""
    if precision == "bf16":  # the trainer enters autocast for each batch if its `amp` is true; a CPU needs no scaler
        yolo.add_callback("on_train_start", lambda trainer: setattr(trainer, "amp", True))
    return yolo


def score(weights: Path, data: str, split: str, given: dict[str, str]) -> dict[str, float]:
    """Return the mAP of a checkpoint on a dataset split."""
    from ultralytics import YOLO

    settings = {"imgsz": RECIPE["imgsz"], "split": split, "plots": False, "device": given["device"], "workers": 0}
    found = YOLO(weights).val(
        data=data, verbose=False, project=str(weights.parent), name="val", exist_ok=True, **settings
    )
    return {"mAP50": float(found.box.map50), "mAP50-95": float(found.box.map)}


def merged(data: Sequence[str], folder: Path) -> Path:
    """Merge the training and validation images and the classes of several datasets; return the path of the YAML."""
    root = folder / "+".join(Path(each).stem for each in data)
    names: dict[int, str] = {}
    for each in data:
        d, first = check_data(each), len(names)
        names |= {first + number: f"{name}" for number, name in d["names"].items()}
        for split in ("train", "val"):
            images, labels = root / "images" / split, root / "labels" / split
            for path in (images, labels):
                path.mkdir(parents=True, exist_ok=True)
            for file in map(Path, files_of(d[split], each)):
                name = f"{Path(each).stem}-{file.name}"
                if not (images / name).exists():
                    (images / name).symlink_to(file)
                theirs = Path(*("labels" if part == "images" else part for part in file.parts)).with_suffix(".txt")
                rows = [line.split() for line in theirs.read_text().splitlines() if line.strip()]
                shifted = "".join(f"{int(row[0]) + first} {' '.join(row[1:])}\n" for row in rows)
                (labels / name).with_suffix(".txt").write_text(shifted)
    path = root / f"{root.name}.yaml"
    path.write_text(yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": names}))
    return path


def source_of(task: Task, folder: Path) -> Path:
    """Return the source, or its replacement in a control: untrained weights, or weights shuffled within each tensor."""
    trained = folder / str(Task("source", f"+{task.data}")) / "weights" / "last.pt"
    path = folder / f"source-{task.start}-{Path(task.data).stem}.pt"
    if task.start.endswith("transfer"):
        return trained
    if path.exists():
        return path
    from ultralytics import YOLO

    yolo: Any = YOLO(trained)
    torch.manual_seed(0)
    if task.start == "untrained":
        yolo.model = type(yolo.model)(yolo.model.yaml, nc=len(yolo.names), verbose=False)
        yolo.model.names = yolo.names
    else:
        for value in yolo.model.state_dict().values():
            value.copy_(value.flatten()[torch.randperm(value.numel())].view_as(value))
    yolo.save(path)
    return path


def retention(data: Sequence[str], given: dict[str, str], folder: Path) -> None:
    """Evaluate the sources, and the models that they are transferred to."""
    for each in data:
        source = folder / str(Task("source", each)) / "weights" / "last.pt"
        table = folder / f"retention-{Path(each).stem}-{given['split']}.json"
        results = read_json(table) or {}
        if "source" not in results:
            results["source"] = score(source, each, given["split"], given)
        for model, method in itertools.product(given["models"].split(","), given["methods"].split(",")):
            name = f"{model} {method}" + (f"+{given['after']}" if int(given["after"]) else "")
            if name not in results:
                out = folder / f"{Path(each).stem}-{model}-{method}.pt"
                weights = moved(source, each, model, METHODS[method], given, out)
                if int(given["after"]):
                    weights = trained_on(weights, each, name.replace(" ", "-"), given, folder)
                results[name] = score(weights, each, given["split"], given)
                write_json(table, results)


def trained_on(weights: Path, data: str, name: str, given: dict[str, str], folder: Path) -> Path:
    """Train a checkpoint for `after` epochs; return the path of the last epoch's checkpoint."""
    from ultralytics import YOLO

    settings = {**RECIPE, "data": data, "device": given["device"], "workers": int(given["workers"])}
    settings |= {"epochs": int(given["after"]), "project": str(folder), "name": f"{Path(data).stem}-{name}"}
    YOLO(weights).train(**settings, exist_ok=True)
    return folder / str(settings["name"]) / "weights" / "last.pt"


def moved(
    source: Path,
    data: str,
    model: str,
    method: Method,
    given: dict[str, str],
    out: Path,
    minutes: float = 0,
    seed: int = 0,
) -> Path:
    """Transfer a source to a model with a method, after some minutes of mimicking; return the checkpoint's path."""
    kept = transferring.transfer.__defaults__
    transferring.transfer.__defaults__ = (0, method)
    torch.manual_seed(seed)
    try:
        values = {**COMMANDS["transfer"].defaults, "model": model, "source": str(source), "data": data,
                  "images": int(given["images"]), "imgsz": RECIPE["imgsz"], "device": given["device"],
                  "mimic": minutes, "seed": seed}  # fmt: skip
        command.run(values, out)
    finally:
        transferring.transfer.__defaults__ = kept
    return out


def collect(folder: Path) -> None:
    """Add a folder's results to those in docs, and write their tables into docs/transfer.md."""
    rows = [
        (*path.stem.split("-")[1:], *(name.split() if name != "source" else (SOURCE, "")), *found.values())
        for path in sorted(folder.glob("retention-*.json"))
        for name, found in (read_json(path) or {}).items()
    ]
    add_rows(DOCS / "transfer.csv", COLUMNS, 4, rows)
    runs = [found for path in sorted(folder.glob("*.json")) if (found := read_json(path) or {}).get("kind") == "gain"]
    scores = [run | {split: run[split]["mAP50-95"] for split in SPLITS} for run in runs]
    add_rows(DOCS / "transfer-gain.csv", GAINS, 4, [[run[key] for key in GAINS] for run in scores])
    page = DOCS / "transfer.md"
    for mark, table in findings(DOCS).items():
        write(page, between(page.read_text("utf-8"), mark, table))


def add_rows(file: Path, columns: Sequence[str], keys: int, rows: Sequence[Sequence[object]]) -> None:
    """Add rows to a CSV file; they replace rows whose first cells, the keys, are equal."""
    found = {tuple(row.values())[:keys]: list(row.values()) for row in read_rows(file)}
    for row in rows:
        cells = [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row]
        found[tuple(cells[:keys])] = cells
    if found:
        write(file, "".join(f"{','.join(cells)}\n" for cells in (columns, *found.values())))


def findings(docs: Path = DOCS) -> dict[str, list[str]]:
    """Return the page's tables by marker: retention of models on test and of methods on val; gains of training."""
    rows, gains = read_rows(docs / "transfer.csv"), read_rows(docs / "transfer-gain.csv")
    found = {
        "retention": kept([row for row in rows if row["split"] == "test"], "model"),
        "methods": kept([row for row in rows if row["split"] == "val"], "method"),
    }
    return found | ({"gain": gained(gains)} if gains else {})


def gained(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return a table with a row for each dataset, model and start, mAP50-95 on test, and the gain over random weights.

    Below it, the gain from the transfer is compared with that of the model which loads the source itself.
    """
    scores: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        scores[row["data"], row["model"], row["start"]][int(row["seed"])] = float(row["test"])
    lines = ["| dataset | model | start | seeds | mAP50-95 | gain, 95 % interval |", "|---" * 6 + "|"]
    for (data, model, start), by_seed in sorted(scores.items()):
        values = {"start": by_seed, "random": scores.get((data, model, "random"), {})}
        gain = differences(values, {"start": "random"}).get("start") if start != "random" else None
        mean_of = f"{100 * mean(by_seed.values()):.1f}"
        cells = (data, f"`{model}`", start, len(by_seed), mean_of, interval(gain._asdict()) if gain else "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, *shares(scores)]


def shares(scores: Mapping[tuple[str, str, str], Mapping[int, float]]) -> list[str]:
    """Return a sentence for each dataset and model whose gain from the transfer can be compared with the source's."""
    lines = []
    for data, model, start in sorted(scores):
        starts = [(data, each, how) for each in (model, SOURCE) for how in (start, "random")]
        if start == "transfer" and model != SOURCE and all(key in scores for key in starts):
            ours, random, theirs, base = (100 * mean(scores[key].values()) for key in starts)
            lines += [
                "",
                f"On {data}, the mean gain of `{model}` is {100 * (ours - random) / (theirs - base):.0f} % of "
                f"`{SOURCE}`'s; its mean accuracy differs from `{SOURCE}`'s by {random - base:+.1f} points from random "
                f"weights and by {ours - theirs:+.1f} from the source.",
            ]
    return lines


def kept(rows: Sequence[dict[str, str]], key: str) -> list[str]:
    """Return a table with a row for the source and each model or method: mAP50-95, and its ratio to the source's."""
    data = list(dict.fromkeys(row["data"] for row in rows))
    whole = {row["data"]: float(row["mAP50-95"]) for row in rows if not row["method"]}
    lines = [f"| {key} | {' | '.join(data)} |", "|---" * (len(data) + 1) + "|"]
    lines.append(f"| the source, `{SOURCE}` | {' | '.join(f'{100 * whole[each]:.1f}' for each in data)} |")
    for name in dict.fromkeys(row[key] for row in rows if row["method"]):
        found = {row["data"]: float(row["mAP50-95"]) for row in rows if row["method"] and row[key] == name}
        cells = [
            f"{100 * found[each]:.1f} ({100 * found[each] / whole[each]:.0f} %)" if each in found else ""
            for each in data
        ]
        what, _, epochs = name.removesuffix(".yaml").partition("+")
        lines.append(f"| `{what}`{f', {epochs} epochs of training' if epochs else ''} | {' | '.join(cells)} |")
    return lines


def print_tables(folder: Path) -> None:
    """Print the results in a folder."""
    for path in sorted(folder.glob("retention-*.json")):
        results = read_json(path) or {}
        whole = results["source"]["mAP50-95"]
        print(f"\n{path.stem}")
        for name, found in results.items():
            share = found["mAP50-95"] / whole if whole else 0
            print(f"{name:40} mAP50 {found['mAP50']:.3f}  mAP50-95 {found['mAP50-95']:.3f}  {share:.0%} of the source")
    groups: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        found = read_json(path) or {}
        if found.get("kind") == "gain":
            groups[found["data"], found["model"], found["start"]][found["seed"]] = found
        elif found.get("kind") == "source" and "test" in found:
            print(f"{path.stem}: " + ", ".join(f"{split} {found[split]['mAP50-95']:.3f}" for split in SPLITS))
    for (data, model, start), by_seed in sorted(groups.items()):
        line = f"{data:10} {model:14} {start:10} {len(by_seed)} seeds"
        for split in SPLITS:
            values = [found[split]["mAP50-95"] for found in by_seed.values()]
            line += f"  {split} {mean(values):.3f}"
            random = groups.get((data, model, "random"), {})
            both = [
                by_seed[seed][split]["mAP50-95"] - random[seed][split]["mAP50-95"] for seed in by_seed if seed in random
            ]
            if start != "random" and len(both) > 1:
                line += f" ({mean(both):+.3f} +- {stdev(both) / len(both) ** 0.5:.3f})"
        print(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
