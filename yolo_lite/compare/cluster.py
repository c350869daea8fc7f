"""The runs of a plan on a Ray cluster: Ray decides when and where, each run is the same process as on one machine.

The comparison's folder and the dataset have to be at the same paths on every node, on a shared file system.
"""

import os
import sys

from yolo_lite.compare.folder import status_of
from yolo_lite.compare.process import finish, job_of, start, write_failed
from yolo_lite.errors import ConfigError, one_line


def connect(address):
    """Connect to a Ray cluster, unless this process is connected already.

    Raises:
        ConfigError: There is none at that address.
    """
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as error:
            raise ConfigError(
                f"ray={address}: {' '.join(str(error).split())[:200]}; start a cluster with `ray start --head`"
            ) from None
    return ray


def run_all(plan, runs, progress, lock):
    """Work through runs, as many at a time as the cluster has room for."""
    ray = connect(plan.how["ray"])
    share = {"num_cpus": plan.how["cpus"], "num_gpus": _gpus(plan, ray)}
    remote = ray.remote(max_retries=0, **share)(work)
    environment = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "YOLO_CONFIG_DIR", "PYTHONPATH")}
    _warn_of_room(share, ray)
    pending = {
        remote.remote(job_of(plan, run), str(plan.folder), os.getcwd(), sys.path, environment): run for run in runs
    }
    try:
        while pending:
            ready, _ = ray.wait(list(pending), timeout=0.5)
            for reference in ready:
                run = pending.pop(reference)
                try:
                    record = ray.get(reference)  # as the node read it: here, a shared folder may lag behind
                except Exception as error:  # its node is lost, or has no such folder
                    record = status_of(run.folder) or write_failed(job_of(plan, run), one_line(error))
                progress.ended(run, record)
            progress.show()
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _gpus(plan, ray):
    """Return the share of GPUs of a run: what the user says, else as many as `device` names, where there are any."""
    if plan.how["gpus"] is not None:
        return plan.how["gpus"]
    device = str(plan.train.get("device", "")).strip("[]() ")
    if device in ("cpu", "mps") or not ray.cluster_resources().get("GPU"):
        return 0
    return max(1, len([part for part in device.split(",") if part.strip()]))


def _warn_of_room(share, ray):
    """Say when the runs will wait, in silence, for a node that is large enough; a cluster may grow by itself."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = share["num_cpus"], share["num_gpus"]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        print(f"no node of the cluster has {cpus} CPUs and {gpus} GPUs; waiting for one", file=sys.stderr, flush=True)


def work(job, folder, cwd, path, environment):
    """Do one run on a node of the cluster; return its record."""
    sys.path[:] = [*path, *(each for each in sys.path if each not in path)]
    if not os.path.isfile(os.path.join(folder, "comparison.json")):
        raise FileNotFoundError(f"{folder} is not on this node; it needs a file system that all nodes share")
    os.chdir(cwd)
    for name, value in environment.items():  # Ray sets some of its own, which would change the arithmetic
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    process = start(job)
    process.wait()
    return finish(process, job)
