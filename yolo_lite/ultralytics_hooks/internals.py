"""What yolo_lite relies on inside Ultralytics."""

import importlib

TESTED = ("8.4.0", "8.4.190")  # the range of Ultralytics releases that the tests ran on


def version():
    """Return the installed Ultralytics' version."""
    return importlib.import_module("ultralytics").__version__


def namespace():
    """Return the names that a stock model YAML may use for modules."""
    return vars(tasks())


def tasks():
    """Return the module `ultralytics.nn.tasks`."""
    return importlib.import_module("ultralytics.nn.tasks")


def build_model(d, task="detect"):
    """Build a model from its dictionary, ours or the host's."""
    decoder = d["head"][-1][2] == "RTDETRDecoder"
    name = {"segment": "Segmentation", "pose": "Pose", "obb": "OBB", "classify": "Classification"}.get(
        task, "Detection"
    )
    return getattr(tasks(), f"{'RTDETRDetection' if decoder else name}Model")(d, verbose=False)
