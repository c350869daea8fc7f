"""`yolo-lite compare`: train several detectors in the same way with several seeds, and report which one to use.

    settings.py      user settings, read and checked
    plan.py          turns settings into a checked list of runs
    comparison.py    definition of a comparison, stored in `comparison.json`; migration of older formats
    folder.py        checks whether a folder is new or holds the same comparison
    baselines.py     size-matched baselines: the base shrunk to equal cost
    run.py           executes a plan: runs, report, latency
    local.py         parallel runs on this machine; cluster.py: runs on a Ray cluster
    process.py       starts the process of a run, sends its job and ends it
    worker.py        that process: train, evaluate, record; prepare.py: start or resume; evaluate.py: final metrics
    initial_weights.py  description of the weights that training starts from
    record.py        records that a run writes
    progress.py      progress line on the terminal
    latency.py       latency of the compared models
    collect.py       copies the small files of a comparison
    significance.py  differences to the baseline and their statistical significance
    bootstrap.py     how much metrics depend on the test images
    report/          tables, plots and one HTML page

The small files in a run's folder hold everything that the report needs, so the weights may be deleted or not copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from yolo_lite.compare.report.results import Results
    from yolo_lite.compare.run import Outcome


def compare(settings: str | Path | Mapping[str, Any] | None = None, /, **more: Any) -> Outcome:
    """Train and compare models, as `yolo-lite compare` does.

    Args:
        settings: Path of a YAML file or a dictionary with settings.
        **more: Settings that override these: models, data, baseline, seeds, split, match, match_for, parallel,
            restart, ray, cpus, gpus, latency, runtimes, threads, project, name, and all training arguments of
            Ultralytics.

    Returns:
        (Outcome): Folder of the comparison, with its finished (including resumed) and failed runs.

    Raises:
        ConfigError: A setting, model or dataset is invalid; then nothing has been trained or written.
    """
    from yolo_lite.compare.plan import make_plan
    from yolo_lite.compare.run import execute

    return execute(make_plan(settings, more))


def write_report(folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Results:
    """Write the report of a comparison from the small files in its folder; see `yolo_lite.compare.report`."""
    from yolo_lite.compare.report import page

    return page.write_report(folder, say)
