"""What is compared: models by name, file or checkpoint."""

import hashlib
import importlib
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

from yolo_lite.errors import ConfigError, one_line, suggest
from yolo_lite.output import errors_only
from yolo_lite.ultralytics_hooks import configs


class Model(NamedTuple):
    """One model of a comparison."""

    label: str
    source: str  # what the trainer is given: a file, or a name that it looks up
    given: str  # as the user wrote it
    digest: str  # of its content: a changed file is another model
    parameters: int
    gflops: float
    size: int  # bytes of its fused weights in float32
    rival_of: tuple = ()  # labels of the models that this one was shrunk for


def load(given, dataset, imgsz, old=()):
    """Find, build and measure the models that a user names.

    Args:
        given: Names (`yolov8n`), YAML files or `.pt` files.
        dataset: The `Dataset`.
        imgsz: Height and width of the images, pixels.
        old: The records by label of a comparison that goes on, whose models keep their labels.

    Returns:
        (list[Model]): In the same order.

    Raises:
        ConfigError: One is unknown, named twice, or cannot be built.
    """
    sources = [_source(each) for each in given]
    for number, source in enumerate(sources):
        if source in sources[:number]:
            raise ConfigError(f"models: {given[number]!r} is named twice")
    labels = _labels(sources)
    models = [_load(*each, dataset, imgsz) for each in zip(labels, sources, given, strict=True)]
    known = {(old[label]["given"], old[label]["digest"]): label for label in old}
    return [model._replace(label=known.get((model.given, model.digest), model.label)) for model in models]


def _source(given):
    name = str(given).strip()
    if Path(name).suffix not in {".yaml", ".yml", ".pt"}:
        name += ".yaml"
    path = Path(name)
    nearby = path.is_file() or path.with_name(configs.without_letter(path.name)).is_file()
    return str(path.absolute()) if nearby else name


def _labels(sources):
    """Name models by their file's name, with as many folders in front as it takes to tell them apart."""
    paths = [Path(source.removesuffix(".yaml").removesuffix(".yml")).parts for source in sources]
    for depth in range(1, max(map(len, paths)) + 1):
        labels = ["-".join(parts[-depth:]).strip("/\\") for parts in paths]
        if len(set(labels)) == len(labels):
            return [re.sub(r"[^\w.+-]", "_", label) for label in labels]
    raise ConfigError(f"models: {', '.join(sources)} cannot be told apart by name")


def _load(label, source, given, dataset, imgsz):
    try:
        with errors_only():
            model, digest = build(source, len(dataset.record["classes"]))
            measured = measure(model, imgsz)
    except FileNotFoundError as error:
        near = suggest(Path(source).name, _names())  # of all names; the error's own are those of our configs
        text = one_line(error).partition("; did you mean")[0] + near if "did you mean" in near else one_line(error)
        raise ConfigError(f"models: {given!r} cannot be built: {text}") from None
    except ConfigError as error:
        raise ConfigError(f"models: {given!r} cannot be built: {error}") from None
    except Exception as error:
        text = f"{one_line(error)} ({type(error).__name__})"
        raise ConfigError(f"models: {given!r} cannot be built: {text}") from None
    return Model(label, source, str(given), digest, *measured)


def _names():
    """The names of all model YAMLs, the host's and ours, as scale n."""
    host = Path(importlib.import_module("ultralytics").__file__).parent / "cfg" / "models"
    names = [path.name for path in host.rglob("*.yaml")] + [
        name for name in configs.configs() if name.startswith("yolo")
    ]
    return [re.sub(r"^(yolov?\d+)(?=[-.])", rf"\1{letter}", name) for name in names for letter in "nsmlx"]


def build(source, classes):
    """Build a detector for a number of classes.

    Returns:
        (DetectionModel, str): The model, and the digest of its YAML or of its checkpoint file.

    Raises:
        ConfigError: It is no detector.
    """
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel, guess_model_task, yaml_model_load

    if source.endswith(".pt"):
        loaded = YOLO(source)
        task, d = loaded.task, loaded.model.yaml
        digest = hashlib.sha256(Path(loaded.ckpt_path).read_bytes()).hexdigest()[:16]
    else:
        d = yaml_model_load(source)
        task = guess_model_task(d)
        digest = digest_of(d)
    if task != "detect":
        raise ConfigError(f"it is a model for the task {task!r}; detectors are what is compared")
    return DetectionModel(d, nc=classes, verbose=False), digest


def digest_of(d):
    """Return what a model's YAML dictionary is known by, wherever it lies."""
    plain = {key: value for key, value in d.items() if key not in {"yaml_file", "backbone_weights"}}
    weights = str(getattr(d.get("backbone_weights"), "setting", None))
    is_file = Path(weights).is_file()
    plain["weights"] = hashlib.sha256(Path(weights).read_bytes()).hexdigest() if is_file else weights
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def measure(model, imgsz):
    """Return a model's parameters, GFLOPs, and bytes of weights in float32, fused."""
    import torch

    from yolo_lite.cost import cost, fused

    parameters, gflops = cost(model, imgsz)
    buffer = io.BytesIO()
    torch.save(fused(model).state_dict(), buffer)
    return parameters, gflops, buffer.tell()
