"""`yolo-lite compare`: train several detectors alike, several seeds each, and report honestly which one to use.

    settings.py      what the user gave, read and checked
    plan.py          settings in, a checked list of runs out
    comparison.py    what a comparison is, as `comparison.json` holds it; older forms of that file
    folder.py        whether a folder is new or goes on with the same comparison
    baselines.py     the base shrunk to equal cost: the size-matched baseline
    run.py           a plan, done: its runs, the report, the latency
    local.py         runs side by side on this machine; cluster.py: on a Ray cluster
    process.py       a run as a process: started, given its job, ended
    worker.py        that process: train, evaluate, record; prepare.py: where it starts; evaluate.py: its final figures
    initial_weights.py  what training began with, in words
    record.py        what a run writes down
    progress.py      what is shown meanwhile
    latency.py       the compared models' latency
    collect.py       a comparison's small files, copied
    significance.py  differences to the baseline, and whether they are shown
    bootstrap.py     how much figures depend on the test images
    report/          tables, plots and one HTML page

A run's folder holds everything that the report needs in small files, so the weights may be deleted or left behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from yolo_lite.compare.report.results import Results
    from yolo_lite.compare.run import Outcome


def compare(settings: str | Path | Mapping[str, Any] | None = None, /, **more: Any) -> Outcome:
    """Train and compare models as `yolo-lite compare` does.

    Args:
        settings: The path of a YAML file, or a dictionary, with settings.
        **more: Settings that override those: models, data, baseline, seeds, split, match, match_for, parallel,
            restart, ray, cpus, gpus, latency, runtimes, threads, project, name, and every training argument of
            Ultralytics.

    Returns:
        (Outcome): The comparison's folder, and its runs: finished (resumed ones included) and failed.

    Raises:
        ConfigError: A setting, model or dataset cannot be used; then nothing has been trained or written.
    """
    from yolo_lite.compare.plan import make_plan
    from yolo_lite.compare.run import execute

    return execute(make_plan(settings, more))


def write_report(folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Results:
    """Write the report of a comparison from its folder's small files; see `yolo_lite.compare.report`."""
    from yolo_lite.compare.report import page

    return page.write_report(folder, say)
