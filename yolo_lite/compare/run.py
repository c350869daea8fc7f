"""Do a plan: its runs, then the report, then the latency."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_lite.compare import latency
from yolo_lite.compare.local import locked, run_here
from yolo_lite.compare.plan import Plan, Run, check_folder, write_folder
from yolo_lite.compare.progress import Progress
from yolo_lite.compare.record import is_finished
from yolo_lite.compare.report import tables
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import write_json


@dataclass(frozen=True)
class Outcome:
    """What became of a comparison.

    Attributes:
        folder: Its folder.
        finished: The runs that have figures, resumed ones included.
        failed: The others.
    """

    folder: Path
    finished: Sequence[Run]
    failed: Sequence[Run]


def execute(plan: Plan) -> Outcome:
    """Do what is left of a plan's runs.

    Raises:
        ConfigError: Another command works in the same folder or has changed what it holds, there is no such Ray
            cluster, or the latency cannot be measured.
    """
    if plan.settings.ray:
        from yolo_lite.compare.cluster import connect

        connect(plan.settings.ray)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder) as lock:
        check_folder(plan)
        write_folder(plan)
        _train(plan, lock)
        finished = [run for run in plan.runs if is_finished(run.folder)]
        failed = [run for run in plan.runs if run not in finished]
        if failed:
            names = ", ".join(map(str, failed))
            _say(f"{len(failed)} run{'s' * (len(failed) > 1)} failed: {names}; the same command tries again")
        if finished:
            _report(plan)
    return Outcome(plan.folder, finished, failed)


def _train(plan: Plan, lock: int | None) -> None:
    left = [run for run in plan.runs if not is_finished(run.folder)]
    if not left:
        return
    run_all = run_here
    if plan.settings.ray:
        from yolo_lite.compare.cluster import run_all
    with Progress(plan) as progress:
        run_all(plan, left, progress, lock)


def _report(plan: Plan) -> None:
    """Write the report, and again when the latency is known, which may fail.

    Raises:
        ConfigError: The latency cannot be measured.
    """
    from yolo_lite.compare.report import page  # with matplotlib, which the start need not wait for

    _say(f"{plan.folder.name}: writing the report")
    results = page.write_report(plan.folder)
    known = latency.read(plan.folder)
    if plan.settings.latency and not latency.is_current(known, plan.models, plan.conditions):
        _measure_latency(plan)
        results = page.write_report(plan.folder)
    _say(tables.headline(results), f"Results saved to {plan.folder}; see report.html")


def _measure_latency(plan: Plan) -> None:
    """Time the models; no training of ours runs now.

    Raises:
        ConfigError: That fails; the report is there, without it.
    """
    try:
        found = latency.measure(plan.models, plan.conditions, _say_unless_passing)
    except Exception as error:
        raise ConfigError(
            f"latency was not measured: {one_line(error)}; {plan.folder / 'report.html'} is without it, runtimes= "
            "chooses others, latency=False leaves it out"
        ) from error
    write_json(plan.folder / latency.FILE, found.to_plain())


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _say_unless_passing(line: str) -> None:
    if not line.endswith("\r"):
        _say(line)
