"""The runs of a plan on a Ray cluster: Ray decides when and where, each run is the same process as on one machine.

The comparison's folder and the dataset have to be at the same paths on every node, on a shared file system.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.compare.comparison import FILE
from yolo_lite.compare.plan import Plan, Run
from yolo_lite.compare.process import Job, finish, job_of, start, write_failed
from yolo_lite.compare.progress import Progress
from yolo_lite.compare.record import RunRecord, read_run
from yolo_lite.errors import ConfigError, one_line

PASSED_ON = ("OMP_NUM_THREADS", "YOLO_CONFIG_DIR", "PYTHONPATH")  # Ray sets some of its own


def connect(address: str | None) -> Any:
    """Connect to a Ray cluster, unless this process is connected already; return the package.

    Raises:
        ConfigError: There is none at that address.
    """
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise ConfigError(
                f"ray={address}: {one_line(error, 200)}; start a cluster with `ray start --head`"
            ) from None
    return ray


def run_all(plan: Plan, runs: Sequence[Run], progress: Progress, lock: int | None) -> None:
    """Work through runs, as many at a time as the cluster has room for."""
    ray = connect(plan.settings.ray)
    cpus, gpus = plan.settings.cpus, _gpus(plan, ray)
    remote = ray.remote(max_retries=0, num_cpus=cpus, num_gpus=gpus)(work)
    environment = {name: os.environ.get(name) for name in PASSED_ON}
    _warn_of_room(cpus, gpus, ray)
    pending = {
        remote.remote(job_of(plan, run), str(plan.folder), os.getcwd(), sys.path, environment): run for run in runs
    }
    try:
        while pending:
            ready, _ = ray.wait(list(pending), timeout=0.5)
            for reference in ready:
                run = pending.pop(reference)
                progress.ended(run, _record(plan, run, reference, ray))
            progress.show()
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _record(plan: Plan, run: Run, reference: Any, ray: Any) -> RunRecord:
    """Return the record of a run that is over, as its node read it: here, a shared folder may lag behind."""
    try:
        record: RunRecord = ray.get(reference)
    except Exception as error:  # its node is lost, or has no such folder
        record = read_run(run.folder, run.model.label, run.seed)
        return record if record.status else write_failed(job_of(plan, run), one_line(error))
    return record


def _gpus(plan: Plan, ray: Any) -> float:
    """Return the share of GPUs of a run: what the user says, else as many as `device` names, where there are any."""
    if plan.settings.gpus is not None:
        return plan.settings.gpus
    device = str(plan.settings.train.get("device", "")).strip("[]() ")
    if device in ("cpu", "mps") or not ray.cluster_resources().get("GPU"):
        return 0
    return max(1, len([part for part in device.split(",") if part.strip()]))


def _warn_of_room(cpus: float, gpus: float, ray: Any) -> None:
    """Say when the runs will wait, in silence, for a node that is large enough; a cluster may grow by itself."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        print(f"no node of the cluster has {cpus} CPUs and {gpus} GPUs; waiting for one", file=sys.stderr, flush=True)


def work(job: Job, folder: str, cwd: str, path: Sequence[str], environment: Mapping[str, str | None]) -> RunRecord:
    """Do one run on a node of the cluster; return its record."""
    sys.path[:] = [*path, *(each for each in sys.path if each not in path)]
    if not Path(folder, FILE).is_file():
        raise FileNotFoundError(f"{folder} is not on this node; it needs a file system that all nodes share")
    os.chdir(cwd)
    for name, value in environment.items():  # Ray's own would change the arithmetic
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    process = start(job)
    process.wait()
    return finish(process, job)
