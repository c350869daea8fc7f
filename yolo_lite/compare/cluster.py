"""Runs on a Ray cluster: Ray decides when and where; each run is the same process as on one machine.

The comparison's folder and the dataset must have the same paths on every node, on a shared file system.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.compare.process import Job, finish, start, write_failed
from yolo_lite.compare.record import RunRecord, read_run
from yolo_lite.errors import ConfigError, one_line

PASSED_ON = ("OMP_NUM_THREADS", "YOLO_CONFIG_DIR", "PYTHONPATH")  # Ray overrides some of these


def connect(address: str | None) -> Any:
    """Connect to a Ray cluster, unless this process is already connected; return the `ray` package.

    Raises:
        ConfigError: There is no cluster at that address.
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


def slots(address: str, cpus: float, gpus: float | None, device: object) -> int:
    """Return the number of runs that the nodes of a cluster have room for at a time, at least 1.

    Args:
        address: Address of the cluster.
        cpus: Number of CPUs per run.
        gpus: Number of GPUs per run; None for as many as `device` names, if the cluster has any.
        device: Training argument `device` of Ultralytics.

    Raises:
        ConfigError: There is no cluster at that address.
    """
    ray = connect(address)
    wanted = {"CPU": cpus, "GPU": _gpus(device, ray) if gpus is None else gpus}
    needed = {name: amount for name, amount in wanted.items() if amount}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    rooms = [min((node.get(name, 0) / each for name, each in needed.items()), default=1) for node in nodes]
    return max(sum(map(int, rooms)), 1)


class Cluster:
    """Workers on a Ray cluster, which decides when and where a run starts.

    Args:
        address: Address of the cluster.
        folder: Folder of the comparison or search, which all nodes share.
        cpus: Number of CPUs per run.
        gpus: Number of GPUs per run; None for as many as `device` names, if the cluster has any.
        device: Training argument `device` of Ultralytics.
        at_once: Maximum number of runs submitted at a time; None for all.
    """

    queues = True

    def __init__(
        self, address: str, folder: Path, cpus: float, gpus: float | None, device: object, at_once: int | None = None
    ) -> None:
        self.ray, self.folder, self.at_once = connect(address), folder, at_once
        gpus = _gpus(device, self.ray) if gpus is None else gpus
        self.remote = self.ray.remote(max_retries=0, num_cpus=cpus, num_gpus=gpus)(work)
        self.environment = {name: os.environ.get(name) for name in PASSED_ON}
        self.pending: dict[Any, Job] = {}
        _warn_of_room(cpus, gpus, self.ray)

    def has_room(self) -> bool:
        """Return whether another run may be submitted."""
        return self.at_once is None or len(self.pending) < self.at_once

    def begin(self, job: Job) -> None:
        """Submit a run."""
        reference = self.remote.remote(job, str(self.folder), os.getcwd(), sys.path, self.environment)
        self.pending[reference] = job

    def expect(self, folder: Path) -> None:
        """Do nothing: the cluster starts the processes."""

    def ended(self) -> list[tuple[Job, RunRecord]]:
        """Wait briefly; return the runs that have ended."""
        ready, _ = self.ray.wait(list(self.pending), timeout=0.5)
        over = [(self.pending.pop(each), each) for each in ready]
        return [(job, self._record(job, each)) for job, each in over]

    def _record(self, job: Job, reference: Any) -> RunRecord:
        """Return the record of an ended run as read on its node, since the shared folder may lag behind here."""
        try:
            record: RunRecord = self.ray.get(reference)
        except Exception as error:  # the node is lost, or lacks the folder
            record = read_run(Path(job.folder), job.model, job.seed)
            return record if record.status else write_failed(job, one_line(error))
        return record

    def close(self) -> None:
        """Cancel all submitted runs."""
        for reference in self.pending:
            self.ray.cancel(reference, force=True)


def _gpus(device: object, ray: Any) -> float:
    """Return the number of GPUs that `device` names, at least 1; 0 without GPUs."""
    named = str(device or "").strip("[]() ")
    if named in ("cpu", "mps") or not ray.cluster_resources().get("GPU"):
        return 0
    return max(1, len([part for part in named.split(",") if part.strip()]))


def _warn_of_room(cpus: float, gpus: float, ray: Any) -> None:
    """Warn if no node is large enough for a run: Ray waits silently for one, which an autoscaler may add."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        print(f"no node of the cluster has {cpus} CPUs and {gpus} GPUs; waiting for one", file=sys.stderr, flush=True)


def work(job: Job, folder: str, cwd: str, path: Sequence[str], environment: Mapping[str, str | None]) -> RunRecord:
    """Execute one run on a node of the cluster; return its record."""
    sys.path[:] = [*path, *(each for each in sys.path if each not in path)]
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is not on this node; it needs a file system that all nodes share")
    os.chdir(cwd)
    for name, value in environment.items():  # Ray's own values would change the arithmetic
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    process = start(job)
    process.wait()
    return finish(process, job)
