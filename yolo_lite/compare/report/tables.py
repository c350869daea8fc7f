"""A comparison's folder in, its results out: as one dictionary, and as results.csv, results.json and summary.md."""

import csv
import io
import json
import statistics as plain
from pathlib import Path

from yolo_lite.compare import bootstrap, significance
from yolo_lite.compare.folder import status_of
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json, write, write_json

METRICS = ("mAP50-95", "mAP50", "F1", "P", "R")
CURVES = {  # what is drawn over the epochs: column of the host's table
    "mAP50-95": "metrics/mAP50-95(B)",
    "mAP50": "metrics/mAP50(B)",
    "P": "metrics/precision(B)",
    "R": "metrics/recall(B)",
}


def gather(folder):
    """Read a comparison's folder and work out all that is reported.

    Returns:
        (dict): comparison, models (finished ones, with their figures), runs, latency, notes; plain data.

    Raises:
        ConfigError: The folder holds no comparison, or nothing is finished in it.
    """
    folder = Path(folder)
    record = read_json(folder / "comparison.json")
    if record is None:
        raise ConfigError(f"{folder}: holds no comparison (comparison.json is missing)")
    runs = [
        {"folder": folder / "runs" / label / str(seed), **status_of(folder / "runs" / label / str(seed))}
        | {"model": label, "seed": seed}
        for label, seeds in record["seeds"].items()
        for seed in seeds
    ]
    finished = [run for run in runs if run.get("status") in ("finished", "resumed")]
    if not finished:
        raise ConfigError(f"{folder}: no run is finished, so there is nothing to report")
    for run in finished:
        run["curves"] = read_curves(run["folder"] / "results.csv")
    latency = read_json(folder / "latency.json")
    labels = [label for label in record["models"] if any(run["model"] == label for run in finished)]
    models = {label: _model(label, record, finished, latency) for label in labels}
    baseline = record["baseline"]
    against = {label: baseline for label in labels if label != baseline}
    rivals = {model: label for label in labels for model in record["models"][label]["rival_of"] if model in labels}
    for key, pairs in (("difference", against), ("to_rival", rivals)):
        for label in labels:
            models[label][key] = {}
        for metric in METRICS:
            values = {label: _values(finished, label, metric) for label in labels}
            for label, difference in significance.differences(values, pairs).items():
                models[label][key][metric] = difference._asdict()
    counted = {
        label: {
            run["seed"]: bootstrap.Counted(run["folder"] / "images.npz") for run in finished if run["model"] == label
        }
        for label in labels
    }
    for label, intervals in bootstrap.intervals(counted, against).items():
        models[label]["images"] = intervals
    return {
        "comparison": record,
        "models": models,
        "rivals": rivals,
        "runs": [{key: value for key, value in run.items() if key != "folder"} for run in runs],
        "latency": latency,
        "notes": notes(record, runs, latency),
    }


def _values(runs, label, metric):
    return {run["seed"]: run["metrics"][metric] for run in runs if run["model"] == label}


def _model(label, record, runs, latency):
    mine = [run for run in runs if run["model"] == label]
    known = record["models"][label]
    figures = {}
    for metric in METRICS:
        values = list(_values(runs, label, metric).values())
        figures[metric] = {"mean": plain.mean(values), "sd": plain.stdev(values) if len(values) > 1 else None}
    names = {name for run in mine for name in run["metrics"]["classes"]}
    return {
        **{key: known[key] for key in ("given", "parameters", "gflops", "size", "rival_of")},
        "seeds": [run["seed"] for run in mine],
        "metrics": figures,
        "classes": {
            name: {metric: plain.mean(run["metrics"]["classes"][name][metric] for run in mine) for metric in METRICS}
            for name in record["data"]["classes"]
            if name in names
        },
        "train_seconds": plain.mean(run["train_seconds"] for run in mine),
        "peak_memory": max((run.get("peak_memory", 0) for run in mine), default=0) or None,
        "peak_gpu_memory": max((run.get("peak_gpu_memory", 0) for run in mine), default=0) or None,
        "latency": [row for row in latency["measurements"] if row["model"] == label and not row.get("control")]
        if latency and latency["models"].get(label) == known["digest"]
        else [],
    }


def read_curves(file):
    """Return the host's table as {"epoch": [...], "mAP50": [...], ..., "train/box_loss": [...], ...}, F1 added."""
    from yolo_lite.compare.evaluate import f1

    with open(file, encoding="utf-8") as text:
        rows = [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(text)]
    columns = rows[0]
    curves = {"epoch": [int(row["epoch"]) for row in rows]}
    curves |= {name: [row[column] for row in rows] for name, column in CURVES.items() if column in columns}
    curves["F1"] = [f1(row[CURVES["P"]], row[CURVES["R"]]) for row in rows]
    curves |= {name: [row[name] for row in rows] for name in columns if name.endswith("loss")}
    return curves


def notes(record, runs, latency):
    """Return what a reader has to know of how the figures came about, as sentences."""
    found = []
    for run in runs:
        name = f"{run['model']}, seed {run['seed']}"
        if run.get("status") is None:
            found.append(f"{name}: not finished yet.")
        elif run["status"] == "failed":
            found.append(f"{name}: failed: {run['error']}")
        elif run["status"] == "resumed":
            places = [each["from"] for each in run["attempts"] if each["from"].startswith("epoch")]
            found.append(
                f"{name}: resumed from {', '.join(places)}; the host's checkpoints hold the averaged weights in half "
                "precision and no random state, so it is not what an uninterrupted run would have been."
            )
        found += [f"{name}: {note}." for note in run.get("notes", ())]
    for what in ("versions", "machine"):
        kinds = {json.dumps(run[what], sort_keys=True) for run in runs if what in run}
        if len(kinds) > 1:
            found.append(f"The runs were made with {len(kinds)} different sets of {what}; see the list of runs.")
    if latency is None:
        found.append("Latency was not measured.")
    elif any(latency["models"].get(label) != model["digest"] for label, model in record["models"].items()):
        found.append("Latency was measured before the last models joined; theirs is missing.")
    if len({tuple(seeds) for seeds in record["seeds"].values()}) > 1:
        found.append("Models have different numbers of seeds; differences use the seeds that both have.")
    return found


# Files ----------------------------------------------------------------------------------------------------------------


def write_files(results, folder):
    """Write results.json, results.csv (a row per run, its last epoch) and summary.md."""
    write_json(folder / "results.json", results)
    write(folder / "results.csv", runs_table(results))
    write(folder / "summary.md", summary(results))


def runs_table(results):
    """Return one row per run as CSV: what it is, its final figures, its model's cost."""
    losses = sorted({key for run in results["runs"] for key in run.get("curves", {}) if key.endswith("loss")})
    header = ["model", "seed", "status", *METRICS, *losses, "epochs", "train_seconds", "peak_memory_mb"]
    header += ["parameters", "gflops", "weights_bytes", *(f"{name}_p50_ms" for name in _runtimes(results))]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n", restval="")
    writer.writeheader()
    for run in results["runs"]:
        row = {"model": run["model"], "seed": run["seed"], "status": run.get("status", "missing")}
        if "curves" in run:
            model = results["models"][run["model"]]
            row |= {metric: run["metrics"][metric] for metric in METRICS}
            row |= {loss: run["curves"][loss][-1] for loss in losses if loss in run["curves"]}
            row |= {"epochs": run["curves"]["epoch"][-1], "train_seconds": round(run["train_seconds"], 1)}
            row["peak_memory_mb"] = round(run["peak_memory"] / 1e6) if "peak_memory" in run else ""
            row |= {"parameters": model["parameters"], "gflops": round(model["gflops"], 4)}
            row["weights_bytes"] = model["size"]
            row |= {f"{runtime_name(each)}_p50_ms": round(each["p50"], 3) for each in model["latency"]}
        writer.writerow(row)
    return text.getvalue()


def runtime_name(measurement):
    """Return what a way of measuring is called, `onnxruntime fp32 1 thread`."""
    threads = measurement["threads"]
    return f"{measurement['runtime']} {measurement['precision']} {threads} thread{'s' if threads > 1 else ''}"


def _runtimes(results):
    return dict.fromkeys(runtime_name(each) for model in results["models"].values() for each in model["latency"])


def headline(results):
    """Return what the comparison shows, in a few sentences."""
    record, models = results["comparison"], results["models"]
    best = max(models, key=lambda label: models[label]["metrics"]["mAP50-95"]["mean"])
    text = f"Highest mAP50-95: {best}, {spread(models[best]['metrics']['mAP50-95'])}."
    said = {
        "better": "Shown to be better than",
        "worse": "Shown to be worse than",
        significance.NOT_SHOWN: "No difference shown to",
        significance.TOO_FEW: "One seed, so no verdict, against",
    }
    differences = {label: model["difference"]["mAP50-95"] for label, model in models.items() if model["difference"]}
    for verdict, words in said.items():
        labels = [label for label, difference in differences.items() if difference["verdict"] == verdict]
        if labels:
            text += f" {words} {record['baseline']}: {_few(labels, len(differences))}."
    lost = [label for label in results["rivals"] if _verdict(models[label]["to_rival"]) == "worse"]
    if lost:
        text += f" Worse than the stock model shrunk to the same cost: {', '.join(lost)}."
    return text


def _few(labels, of):
    return ", ".join(labels) if len(labels) <= 4 else f"{len(labels)} of {of}"


def _verdict(differences):
    return differences.get("mAP50-95", {}).get("verdict")


def spread(figure):
    """Return `0.571 ± 0.004`."""
    return f"{figure['mean']:.3f}" + (f" ± {figure['sd']:.3f}" if figure["sd"] is not None else "")


def signed(difference):
    """Return `-0.013 [-0.020, -0.006]`."""
    text = f"{difference['mean']:+.3f}"
    return text if difference["low"] is None else f"{text} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def summary(results):
    """Return the results as a page of Markdown."""
    record, runtimes = results["comparison"], list(_runtimes(results))
    data = record["data"]
    lines = [
        f"# {record['name']}",
        "",
        headline(results),
        "",
        f"{data['name']}: {', '.join(f'{count} {split}' for split, count in data['images'].items())} images; "
        f"last epoch's weights on the {data['split']} split, mean ± standard deviation over seeds. "
        f"Differences to {record['baseline']} are paired by seed, with unadjusted 95 % Student-t intervals; the "
        "verdict uses p adjusted by Holm over the models.",
        "",
    ]
    header = ["model", "seeds", "params, M", "GFLOPs", *(f"{name}, ms" for name in runtimes), *METRICS]
    header += ["mAP50-95 to baseline", "verdict"]
    lines += [_row(header), _row(["---"] * len(header))]
    for label, model in results["models"].items():
        times = {runtime_name(each): each["p50"] for each in model["latency"]}
        difference = model["difference"].get("mAP50-95")
        lines.append(
            _row(
                [
                    label,
                    len(model["seeds"]),
                    f"{model['parameters'] / 1e6:.2f}",
                    f"{model['gflops']:.2f}",
                    *(f"{times[name]:.1f}" if name in times else "" for name in runtimes),
                    *(spread(model["metrics"][metric]) for metric in METRICS),
                    signed(difference) if difference else "",
                    difference["verdict"] if difference else "baseline" if label == record["baseline"] else "",
                ]
            )
        )
    if results["rivals"]:
        lines += ["", "Against the stock model shrunk to the same cost (mAP50-95):", ""]
        for label, rival in results["rivals"].items():
            difference = results["models"][label]["to_rival"].get("mAP50-95")
            if difference:
                cost = matched(record, label, rival)
                line = f"- {label} against {rival}: {signed(difference)}, {difference['verdict']}"
                lines.append(line + (f"; it takes {cost}" if cost else ""))
    if results["notes"]:
        lines += ["", "Notes:", "", *(f"- {note}" for note in results["notes"])]
    return "\n".join(lines) + "\n"


def matched(record, label, rival):
    """Return what a rival was chosen by, `0.97 of the time (onnxruntime, 1 thread)`; None where it was not latency."""
    found = record.get("matched", {}).get(rival, {}).get(label)
    threads = found and f"{found['threads']} thread{'s' * (found['threads'] > 1)}"
    return found and f"{found['ratio']:.2f} of the time ({found['runtime']}, {threads})"


def _row(cells):
    return f"| {' | '.join(map(str, cells))} |"
