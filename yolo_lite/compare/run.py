"""Do a plan: its runs, then the report, then the latency."""

import sys
from pathlib import Path
from typing import NamedTuple

from yolo_lite.compare import latency
from yolo_lite.compare.folder import is_finished
from yolo_lite.compare.local import locked, run_here
from yolo_lite.compare.plan import Plan, check_folder, write_folder
from yolo_lite.compare.progress import Progress
from yolo_lite.compare.report import page, tables
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import write_json


class Outcome(NamedTuple):
    """What became of a comparison."""

    folder: Path
    finished: list  # of Run, resumed ones included
    failed: list


def execute(plan: Plan):
    """Do what is left of a plan's runs.

    Returns:
        (Outcome): The runs, finished and failed.

    Raises:
        ConfigError: Another command works in the same folder or has changed what it holds, there is no such Ray
            cluster, or the latency cannot be measured.
    """
    if plan.how["ray"]:
        from yolo_lite.compare.cluster import connect

        connect(plan.how["ray"])
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder) as lock:
        check_folder(plan)
        write_folder(plan)
        left = [run for run in plan.runs if not is_finished(run.folder)]
        if left:
            with Progress(plan) as progress:
                if plan.how["ray"]:
                    from yolo_lite.compare.cluster import run_all
                else:
                    run_all = run_here
                run_all(plan, left, progress, lock)
        finished = [run for run in plan.runs if is_finished(run.folder)]
        failed = [run for run in plan.runs if run not in finished]
        if failed:
            names = ", ".join(f"{run.model.label} seed {run.seed}" for run in failed)
            _say(f"{len(failed)} run{'s' * (len(failed) > 1)} failed: {names}; the same command tries again")
        if finished:
            _say(f"{plan.folder.name}: writing the report")
            results = page.write_report(plan.folder)  # before the latency, which may fail
            if _latency_is_due(plan):
                _measure_latency(plan)
                results = page.write_report(plan.folder)
            _say(tables.headline(results), f"Results saved to {plan.folder}; see report.html")
    return Outcome(plan.folder, finished, failed)


def _latency_is_due(plan):
    return plan.how["latency"] and not latency.is_current(
        plan.folder / "latency.json", plan.models, plan.record["train"]["imgsz"], plan.how
    )


def _measure_latency(plan):
    """Time the models; no training of ours runs now.

    Raises:
        ConfigError: That fails; the report is there, without it.
    """
    classes, imgsz = len(plan.record["data"]["classes"]), plan.record["train"]["imgsz"]
    try:
        found = latency.latency(plan.models, classes, imgsz, plan.how, _say_unless_passing)
    except Exception as error:
        raise ConfigError(
            f"latency was not measured: {one_line(error)}; {plan.folder / 'report.html'} is without it, runtimes= "
            "chooses others, latency=False leaves it out"
        ) from error
    write_json(plan.folder / "latency.json", found)


def _say(*lines):
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _say_unless_passing(line):
    if not line.endswith("\r"):
        _say(line)
