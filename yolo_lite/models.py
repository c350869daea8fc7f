"""Models by name or file: found, read, counted, and known by their content; for `bench`, `compare` and `info`.

Files that have been exported are no models here: `yolo_lite.bench.export` knows them.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.errors import ConfigError, nearest, suggest, typed_line
from yolo_lite.files import is_file
from yolo_lite.output import errors_only, silent
from yolo_lite.ultralytics_hooks import configs
from yolo_lite.ultralytics_hooks.checkpoints import VERSION_KEY

if TYPE_CHECKING:
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

NO_INSTALL = "ULTRALYTICS_SKIP_REQUIREMENTS_CHECKS"
MNN_REPORTS = "MNN.tools.utils.log"  # its converter imports this if it can, and this runs pip and calls its authors
YAMLS = (".yaml", ".yml")
NOT_OF_IT = {"yaml_file", "backbone_weights", "transfer", VERSION_KEY}  # keys that do not make another model


@dataclass(frozen=True)
class Model:
    """A model: where it is, what it is known by, what it costs.

    Attributes:
        label: What it is called.
        source: What Ultralytics is given: a file, or a name that it looks up.
        given: What the user wrote.
        digest: Of its content, wherever it lies: a changed file is another model.
        parameters: Fused.
        gflops: Fused, at the image size that was asked for.
        size: Bytes of its fused weights in float32.
    """

    label: str
    source: str
    given: str
    digest: str
    parameters: int
    gflops: float
    size: int


@dataclass(frozen=True, kw_only=True)
class Opened(Model):
    """A model that has been read, too."""

    yolo: "YOLO" = field(repr=False, compare=False)

    @property
    def classes(self) -> int:
        """How many it tells apart."""
        return len(self.yolo.names)


def load(given: str | Path, imgsz: int, label: str | None = None) -> Opened:
    """Find a model, of any task and with its own classes, read and count it.

    Args:
        given: `yolov8n` or `yolov8n.yaml` (built with random weights), or a .pt.
        imgsz: Height and width of the image that its cost is counted at, pixels.
        label: What to call it; its file's name without one.

    Raises:
        ConfigError: There is no such model, or it cannot be read.
    """
    source = find(given)
    with _one_sentence(given, source):
        from ultralytics import RTDETR, YOLO

        kind = RTDETR if "rtdetr" in Path(source).stem else YOLO  # told by the name, as the `yolo` command does
        yolo = kind(source)
        counted = measure(yolo.model, imgsz)
        return Opened(label or labels([source])[0], source, str(given), _digest(source), *counted, yolo=yolo)


def load_detectors(
    given: Sequence[str | Path],
    classes: int,
    imgsz: Sequence[int],
    known: Mapping[tuple[str, str], str] | None = None,
) -> list[Model]:
    """Find the detectors that a user names, build them for a number of classes and count them.

    Args:
        given: Names (`yolov8n`), YAML files or .pt files.
        classes: How many classes they detect.
        imgsz: Height and width of the images of each, pixels.
        known: Labels that models have already, by (what the user wrote, digest).

    Returns:
        (list[Model]): In the same order.

    Raises:
        ConfigError: One is unknown, named twice, no detector, or cannot be built.
    """
    sources = [find(each) for each in given]
    models = []
    for label, source, name, size in zip(labels(sources, given), sources, given, imgsz, strict=True):
        with _one_sentence(name, source):
            network, digest = build(source, classes)
            model = Model(label, source, str(name), digest, *measure(network, size))
        models.append(replace(model, label=(known or {}).get((model.given, digest), label)))
    return models


def find(given: str | Path) -> str:
    """Return what Ultralytics is given for a model: the absolute path of a file that is here, or a name to look up.

    Raises:
        ConfigError: It names nothing, or a .pt that is neither here nor released by us; no other is downloaded.
    """
    path = Path(str(given).strip())
    if not path.name:
        raise ConfigError(f"{str(given)!r} is not the name of a model")
    if path.suffix == ".pt":
        from yolo_lite.ultralytics_hooks import released

        path = released.find(path) or path
    if path.suffix == ".pt" and not path.is_file():  # Ultralytics would look for it on the network
        raise ConfigError(f"there is no file {path}{_instead(path)}")
    if path.suffix not in (*YAMLS, ".pt"):
        path = path.with_name(f"{path.name}.yaml")
    return str(path.absolute()) if _is_here(path) else str(path)


def _instead(path: Path) -> str:
    """Say which checkpoints lie near, for one that does not exist, or that its name is that of a YAML."""
    known = {*configs.configs(), *(f"{name}.yaml" for name in configs.stock_configs())}
    if {f"{path.stem}.yaml", configs.without_letter(f"{path.stem}.yaml")} & known:
        return f"; without .pt, {path.stem} is built with random weights"
    here = sorted(map(str, [*Path().glob("*.pt"), *Path().glob("runs/*/*/weights/best.pt")]))
    near = nearest(path, here) or next(iter(here), None)
    return f"; did you mean {near!r}?" if near else "; yolo train makes one, runs/detect/train/weights/best.pt"


def labels(sources: Sequence[str], given: Sequence[str | Path] | None = None) -> list[str]:
    """Name models by their file's name, with as many folders in front as it takes to tell them apart.

    Args:
        sources: What `find` found.
        given: What the user wrote, for the errors.

    Raises:
        ConfigError: One is named twice, or they cannot be told apart.
    """
    for number, source in enumerate(sources):
        if source in sources[:number]:
            raise ConfigError(f"models: {str((given or sources)[number])!r} is named twice")
        if not _stem(source).strip("."):  # `..` would be the folder above
            raise ConfigError(f"models: {str((given or sources)[number])!r} leaves a model without a name; rename it")
    paths = [(*Path(source).parts[:-1], _stem(source)) for source in sources]
    names: list[str] = []
    for depth in range(1, max(map(len, paths), default=0) + 1):
        names = [re.sub(r"[^\w.+-]", "_", "-".join(parts[-depth:]).strip("/\\")) for parts in paths]
        if len({name.lower() for name in names}) == len(names):  # some file systems take capitals for small letters
            return names
    if names:
        low = [name.lower() for name in names]
        twice = next(source for source, name in zip(sources, low, strict=True) if low.count(name) > 1)
        called = re.sub(r"[^\w.+-]", "_", _stem(twice))
        raise ConfigError(f"models: {', '.join(sources)}: two would be called {called}; rename one of the files")
    return []


def _stem(source: str) -> str:
    return Path(source).name.removesuffix(".yaml").removesuffix(".yml")


def is_random(given: str | Path) -> bool:
    """Tell whether a model of that name is built with random weights."""
    return not str(given).strip().endswith(".pt")


def build(source: str, classes: int) -> "tuple[DetectionModel, str]":
    """Build a detector for a number of classes.

    Args:
        source: What `find` found.
        classes: How many classes it detects.

    Returns:
        (DetectionModel, str): The model, and the digest of its YAML or of its checkpoint file.

    Raises:
        ConfigError: It is a model for another task.
    """
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel, guess_model_task, yaml_model_load

    if is_random(source):
        d = yaml_model_load(source)
        task, digest = guess_model_task(d), digest_of(d)
    else:
        loaded = YOLO(source)
        task, d, digest = loaded.task, loaded.model.yaml, _digest(source)
    if task != "detect":
        raise ConfigError(f"{Path(source).name}: is a model for the task {task!r}; only detectors can be compared")
    return DetectionModel(d, nc=classes, verbose=False), digest


def digest_of(d: Mapping[str, Any]) -> str:
    """Return what a model's YAML dictionary is known by, wherever it lies."""
    plain = {key: value for key, value in d.items() if key not in NOT_OF_IT}
    weights = str(getattr(d.get("backbone_weights"), "setting", None))
    plain["weights"] = hashlib.sha256(Path(weights).read_bytes()).hexdigest() if is_file(weights) else weights
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def measure(network: "torch.nn.Module", imgsz: int) -> tuple[int, float, int]:
    """Return a network's parameters, GFLOPs, and bytes of weights in float32, fused."""
    import torch

    from yolo_lite.cost import cost, fused

    parameters, gflops = cost(network, imgsz)
    buffer = io.BytesIO()
    torch.save(fused(network).state_dict(), buffer)
    return parameters, gflops, buffer.tell()


def all_names() -> list[str]:
    """Return the names of all model YAMLs, Ultralytics' and ours, with their scale letters."""
    files = [f"{stem}.yaml" for stem in configs.stock_configs()]
    files += [name for name in configs.configs() if name.startswith("yolo")]
    scaled = (re.sub(r"^(yolov?\d+)(?=[-.])", rf"\1{letter}", name) for name in files for letter in "nsmlx")
    return list(dict.fromkeys(scaled))


@contextlib.contextmanager
def nothing_installed() -> Iterator[None]:
    """Keep Ultralytics and exporters from installing packages that they miss; what is missing is said instead."""
    before = os.environ.get(NO_INSTALL)
    os.environ[NO_INSTALL] = "1"  # the only value that the oldest releases know
    sys.modules.setdefault(MNN_REPORTS, None)  # type: ignore[arg-type]  # which makes importing it fail
    try:
        yield
    finally:
        os.environ.pop(NO_INSTALL)
        if before is not None:
            os.environ[NO_INSTALL] = before


def _is_here(path: Path) -> bool:
    return path.is_file() or path.with_name(configs.without_letter(path.name)).is_file()


def _digest(source: str) -> str:
    from ultralytics.nn.tasks import yaml_model_load

    if is_random(source):
        return digest_of(yaml_model_load(source))
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]


@contextlib.contextmanager
def _one_sentence(given: str | Path, source: str) -> Iterator[None]:
    """Say in one sentence why a model cannot be read, and let Ultralytics say nothing."""
    try:
        with silent(), errors_only(), nothing_installed():
            yield
    except ConfigError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _is_here(Path(source)):
            raise ConfigError(f"there is no model {str(given)!r}{suggest(Path(source).name, all_names())}") from None
        raise ConfigError(f"{given} cannot be read as a model: {typed_line(error)}") from None
