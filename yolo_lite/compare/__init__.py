"""`yolo-lite compare`: train several detectors alike, several seeds each, and report honestly which one to use.

    plan.py        settings in, a checked list of runs out; what a comparison's folder holds
    models.py      what is compared: named models, and the stock host shrunk to equal cost
    dataset.py     the dataset: what it is, and which of its images are shown
    runs.py        the runs of a plan, side by side on this machine or on a Ray cluster
    worker.py      one run, in a process of its own: train, evaluate, record
    collect.py     a folder's small files in, tables out
    statistics.py  differences to the baseline, and whether they are shown
    report.py      tables, plots and one HTML page

A run's folder holds everything that the report needs in small files, so the weights may be deleted or left behind.
"""


def compare(settings=None, /, **more):
    """Train and compare models as `yolo-lite compare` does.

    Args:
        settings: The path of a YAML file, or a dictionary, with settings.
        **more: Settings that go before those: models, data, baseline, seeds, split, match, rivals, parallel, restart,
            ray, cpus, gpus, latency, runtimes, threads, project, name, and every training argument of Ultralytics.

    Returns:
        (Outcome): The comparison's folder, and its runs: finished (resumed ones included) and failed.

    Raises:
        ConfigError: A setting, model or dataset cannot be used; nothing has been trained or written then.
    """
    from yolo_lite.compare.plan import make_plan
    from yolo_lite.compare.runs import execute

    return execute(make_plan(settings, more))


def write_report(folder):
    """Write the report of a comparison from its folder's small files; see `yolo_lite.compare.report`."""
    from yolo_lite.compare import report

    return report.write_report(folder)
