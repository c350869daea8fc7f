"""The results as results.csv, results.json and summary.md, and as a headline of a few sentences."""

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.compare import significance
from yolo_lite.compare.record import METRICS
from yolo_lite.compare.report import recommendation
from yolo_lite.compare.report.results import FILE, MAIN, ModelResult, Results, RunResult
from yolo_lite.compare.significance import Difference
from yolo_lite.files import rows_as_csv, write, write_json

_SAID = {  # verdict: wording in the headline
    "better": "Shown to be better than",
    "worse": "Shown to be worse than",
    significance.NOT_SHOWN: "No difference shown from",
    significance.TOO_FEW: "One seed, so no verdict, against",
}


def write_files(results: Results, folder: Path) -> None:
    """Write results.json, results.csv (one row per run, for its last epoch) and summary.md."""
    write_json(folder / FILE, results.to_plain())
    write(folder / "results.csv", runs_table(results))
    write(folder / "summary.md", summary(results))


def runs_table(results: Results) -> str:
    """Return one row per run as CSV: model, seed and status, final metrics, cost of the model."""
    losses = sorted({key for run in results.runs for key in run.curves or () if key.endswith("loss")})
    header = ["model", "seed", "status", *METRICS, *losses, "epochs", "train_seconds", "peak_memory_mb"]
    header += ["parameters", "gflops", "weights_bytes", *(f"{way}_p50_ms" for way in results.ways)]
    return rows_as_csv(header, [_run_row(run, results.models.get(run.record.model), losses) for run in results.runs])


def _run_row(run: RunResult, model: ModelResult | None, losses: Sequence[str]) -> dict[str, Any]:
    record = run.record
    row: dict[str, Any] = {"model": record.model, "seed": record.seed, "status": record.status or "missing"}
    if run.curves is None or model is None:
        return row
    return {
        **row,
        **record.final.figures,
        **{loss: run.curves[loss][-1] for loss in losses if loss in run.curves},
        "epochs": run.curves["epoch"][-1],
        "train_seconds": round(record.train_seconds or 0.0, 1),
        "peak_memory_mb": "" if record.peak_memory is None else round(record.peak_memory / 1e6),
        "parameters": model.record.parameters,
        "gflops": round(model.record.gflops, 4),
        "weights_bytes": model.record.size,
        **{f"{each.way}_p50_ms": round(each.p50, 3) for each in model.latency},
    }


def headline(results: Results) -> str:
    """Return a summary of the results and the recommendation, in a few sentences."""
    return " ".join(filter(None, [shown(results), results.recommendation.sentence]))


def shown(results: Results) -> str:
    """Return a summary of the results, in a few sentences; empty if no model has learned anything."""
    models, baseline = results.models, results.comparison.baseline
    best = max(models, key=lambda label: models[label].metrics[MAIN].mean)
    if models[best].metrics[MAIN].mean < recommendation.NOTHING:
        return ""
    text = f"Highest {MAIN}: {best}, {models[best].metrics[MAIN]}."
    differences = {label: model.difference[MAIN] for label, model in models.items() if model.difference}
    for verdict, words in _SAID.items():
        labels = [label for label, difference in differences.items() if difference.verdict == verdict]
        if labels:
            text += f" {words} {baseline}: {_few(labels, len(differences))}."
    lost = [label for label in results.size_matched if _verdict(models[label].to_size_matched) == "worse"]
    if lost:
        text += f" Worse than the size-matched baseline: {', '.join(lost)}."
    return text


def _few(labels: Sequence[str], of: int) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{len(labels)} of {of}"


def _verdict(differences: Mapping[str, Difference]) -> str | None:
    return differences[MAIN].verdict if MAIN in differences else None


def signed(difference: Difference) -> str:
    """Format a difference as `-0.013 [-0.020, -0.006]`."""
    text = f"{difference.mean:+.3f}"
    return text if difference.low is None else f"{text} [{difference.low:+.3f}, {difference.high:+.3f}]"


def summary(results: Results) -> str:
    """Return the results as a Markdown page."""
    comparison = results.comparison
    data = comparison.data
    part = f" (fraction={comparison.fraction} of the training images)" if comparison.fraction != 1 else ""
    header = [
        "model",
        "seeds",
        *["images, px"] * comparison.differ_in_imgsz,
        "params, M",
        "GFLOPs",
        *(f"{way}, ms" for way in results.ways),
        *METRICS,
    ]
    header += [f"{MAIN} to baseline", "verdict"]
    lines = [
        f"# {escaped(comparison.name)}",
        "",
        escaped(headline(results)),
        "",
        f"{escaped(data.name)}: {', '.join(f'{count} {split}' for split, count in data.images.items())} images{part}; "
        f"last epoch's weights on the {data.split} split, mean ± standard deviation over seeds. "
        f"Differences to {escaped(comparison.baseline)} are paired by seed, with unadjusted 95 % Student-t intervals; "
        "the verdict uses p adjusted by Holm over the models.",
        "",
        _row(header),
        _row(["---"] * len(header)),
        *(_row(_cells(results, label)) for label in results.models),
    ]
    if results.size_matched:
        lines += ["", f"Against the size-matched baseline ({MAIN}):", "", *_size_matched_lines(results)]
    if results.notes:
        lines += ["", "Notes:", "", *(f"- {escaped(note)}" for note in results.notes)]
    return "\n".join(lines) + "\n"


def _cells(results: Results, label: str) -> list[object]:
    model = results.models[label]
    times = {each.way: each.p50 for each in model.latency}
    difference = model.difference.get(MAIN)
    is_baseline = label == results.comparison.baseline
    return [
        label,
        len(model.seeds),
        *[results.comparison.imgsz(label)] * results.comparison.differ_in_imgsz,
        f"{model.record.parameters / 1e6:.2f}",
        f"{model.record.gflops:.2f}",
        *(f"{times[way]:.1f}" if way in times else "" for way in results.ways),
        *(model.metrics[metric] for metric in METRICS),
        signed(difference) if difference else "",
        difference.verdict if difference else "baseline" if is_baseline else "",
    ]


def _size_matched_lines(results: Results) -> Iterator[str]:
    for label, other in results.size_matched.items():
        difference = results.models[label].to_size_matched.get(MAIN)
        if difference:
            cost = results.cost_of(label)
            line = f"- {escaped(label)} against {escaped(other)}: {signed(difference)}, {difference.verdict}"
            yield line + (f"; it takes {cost}" if cost else "")


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(escaped(str(cell)) for cell in cells)} |"


def escaped(text: str) -> str:
    """Escape a text for Markdown: one line, without HTML, links or table cells."""
    plain = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"[\\`|]|(?<=\])\(", r"\\\g<0>", plain)
