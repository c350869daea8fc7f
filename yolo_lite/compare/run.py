"""Execute a plan: its runs, then the report, then the latency."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite.compare import latency
from yolo_lite.compare.local import Here, locked
from yolo_lite.compare.plan import Plan, Run, check_folder, write_folder
from yolo_lite.compare.process import Workers, job_of
from yolo_lite.compare.progress import Progress
from yolo_lite.compare.record import is_finished
from yolo_lite.compare.report import data_files
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import write_json


@dataclass(frozen=True)
class Outcome:
    """Result of a comparison.

    Attributes:
        folder: Folder of the comparison.
        finished: Runs that have metrics, including resumed runs.
        failed: Runs that have no metrics.
    """

    folder: Path
    finished: Sequence[Run]
    failed: Sequence[Run]


def train(plan: Plan, tick: Callable[[], object] = lambda: None) -> None:
    """Execute the remaining runs of a plan, without a report.

    Args:
        plan: The plan.
        tick: Callback that is called again and again while runs are executed.

    Raises:
        ConfigError: Another command uses the folder or has changed its content, or the Ray cluster cannot be reached.
    """
    with _ready(plan) as lock:
        _train(plan, lock, tick)


def execute(plan: Plan, tick: Callable[[], object] = lambda: None) -> Outcome:
    """Execute the remaining runs of a plan, then write the report and measure latency.

    Args:
        plan: The plan.
        tick: Callback that is called again and again while runs are executed.

    Raises:
        ConfigError: Another command uses the folder or has changed its content, the Ray cluster cannot be reached, or
            the latency cannot be measured.
    """
    with _ready(plan) as lock:
        _train(plan, lock, tick)
        finished = [run for run in plan.runs if is_finished(run.folder)]
        failed = [run for run in plan.runs if run not in finished]
        if failed:
            names = ", ".join(map(str, failed))
            _say(f"{len(failed)} run{'s' * (len(failed) > 1)} failed: {names}; the same command tries again")
        if finished:
            _report(plan)
    return Outcome(plan.folder, finished, failed)


@contextlib.contextmanager
def _ready(plan: Plan) -> Iterator[int | None]:
    """Connect to the cluster if there is one, lock the folder and write the comparison; yield the lock."""
    if plan.settings.ray:
        from yolo_lite.compare.cluster import connect

        connect(plan.settings.ray)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with locked(plan.folder) as lock:
        check_folder(plan)
        write_folder(plan)
        yield lock


def _train(plan: Plan, lock: int | None, tick: Callable[[], object]) -> None:
    """Execute the remaining runs."""
    waiting = [run for run in plan.runs if not is_finished(run.folder)]
    if not waiting:
        return
    working: dict[str, Run] = {}
    settings = plan.settings
    at_work = workers(settings.parallel, lock, settings.ray, plan.folder, settings.cpus, settings.gpus, settings.train)
    with Progress(plan) as progress, contextlib.closing(at_work):
        while waiting or working:
            while waiting and at_work.has_room():
                run = waiting.pop(0)
                at_work.begin(job_of(plan, run))
                working[str(run.folder)] = run
                if not at_work.queues:
                    progress.began(run)
            if waiting and any(progress.is_ending(run) for run in working.values()):
                at_work.expect(waiting[0].folder)
            for job, record in at_work.ended():
                progress.ended(working.pop(job.folder), record)
            progress.show()
            tick()


def workers(
    parallel: int,
    lock: int | None,
    ray: str | None,
    folder: Path,
    cpus: float,
    gpus: float | None,
    train: Mapping[str, Any],
    at_once: int | None = None,
) -> Workers:
    """Return the workers that execute runs, on this machine or on a cluster.

    Args:
        parallel: Number of runs at a time on this machine.
        lock: File descriptor of the folder's lock; None without a lock.
        ray: Address of the Ray cluster; None for this machine.
        folder: Folder of the comparison or search.
        cpus, gpus: CPUs and GPUs per run on the cluster.
        train: Training arguments of Ultralytics.
        at_once: Maximum number of runs submitted to the cluster at a time; None for all.
    """
    if ray is None:
        return Here(parallel, lock)
    from yolo_lite.compare.cluster import Cluster

    return Cluster(ray, folder, cpus, gpus, train.get("device"), at_once)


def _report(plan: Plan) -> None:
    """Write the report, measure latency if needed, and write the report again.

    Raises:
        ConfigError: The latency cannot be measured.
    """
    from yolo_lite.compare.report import page  # imports matplotlib, which would delay the start

    results = page.write_report(plan.folder, _say)
    known = latency.read(plan.folder)
    if plan.settings.latency and not latency.is_current(known, plan.models, plan.conditions):
        _measure_latency(plan)
        results = page.write_report(plan.folder, _say)
    _say(data_files.headline(results), f"Results saved to {plan.folder}; see report.html")


def _measure_latency(plan: Plan) -> None:
    """Measure the latency of the models, while none of our trainings runs.

    Raises:
        ConfigError: The measurement fails; the report without latency exists already.
    """
    try:
        found = latency.measure(plan.models, plan.conditions, _say_unless_passing)
    except Exception as error:
        raise ConfigError(
            f"latency was not measured: {one_line(error)}; {plan.folder / 'report.html'} does not have it; choose "
            "other runtimes=, or set latency=False"
        ) from error
    write_json(plan.folder / latency.FILE, found.to_plain())


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _say_unless_passing(line: str) -> None:
    if not line.endswith("\r"):
        _say(line)
