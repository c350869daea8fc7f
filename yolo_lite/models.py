"""Find, load, measure and hash models given by name or file, for `bench`, `compare` and `info`.

Exported files are handled by `yolo_lite.bench.export`.
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
MNN_REPORTS = "MNN.tools.utils.log"  # optional import of MNN's converter, which runs pip and contacts its authors
YAMLS = (".yaml", ".yml")
NOT_OF_IT = {"yaml_file", "backbone_weights", "transfer", VERSION_KEY}  # keys ignored by the digest


@dataclass(frozen=True)
class Model:
    """Model with its location, content digest and cost.

    Attributes:
        label: Display name of the model.
        source: Argument passed to Ultralytics: path of a file, or a name that Ultralytics looks up.
        given: Name or path as written by the user.
        digest: Digest of the model's content, independent of its path; it differs for a changed file.
        parameters: Number of parameters of the fused model.
        gflops: GFLOPs of the fused model at the requested image size.
        size: Size of the fused float32 weights, bytes.
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
    """Model together with its loaded `YOLO` object."""

    yolo: "YOLO" = field(repr=False, compare=False)

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.yolo.names)


def load(given: str | Path, imgsz: int, label: str | None = None) -> Opened:
    """Load a model of any task, with its own classes, and measure its cost.

    Args:
        given: `yolov8n` or `yolov8n.yaml` (built with random weights), or path of a .pt file.
        imgsz: Height and width of the image for counting GFLOPs, pixels.
        label: Display name; None to use the file name.

    Raises:
        ConfigError: The model does not exist, or cannot be read.
    """
    source = find(given)
    with _one_sentence(given, source):
        from ultralytics import RTDETR, YOLO

        kind = RTDETR if "rtdetr" in Path(source).stem else YOLO  # recognised by the name, as the `yolo` command does
        yolo = kind(source)
        counted = measure(yolo.model, imgsz)
        return Opened(label or labels([source])[0], source, str(given), _digest(source), *counted, yolo=yolo)


def load_detectors(
    given: Sequence[str | Path],
    classes: int,
    imgsz: Sequence[int],
    known: Mapping[tuple[str, str], str] | None = None,
) -> list[Model]:
    """Build detectors for a number of classes and measure their cost.

    Args:
        given: Names (`yolov8n`), YAML files or .pt files.
        classes: Number of classes.
        imgsz: Image size (height and width) of each model, pixels.
        known: Existing labels of models, keyed by (name as written by the user, digest).

    Returns:
        (list[Model]): Models in the order of `given`.

    Raises:
        ConfigError: A model is unknown, given twice, not a detector, or cannot be built.
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
    """Return the absolute path of a model file that exists locally, or else a name for Ultralytics to look up.

    Raises:
        ConfigError: The name is empty, or a .pt that neither exists locally nor is one of yolo_lite's released
            checkpoints; no other checkpoint is downloaded.
    """
    path = Path(str(given).strip())
    if not path.name:
        raise ConfigError(f"{str(given)!r} is not the name of a model")
    if path.suffix == ".pt":
        from yolo_lite.ultralytics_hooks import released

        path = released.find(path) or path
    if path.suffix == ".pt" and not path.is_file():  # Ultralytics would try to download it
        raise ConfigError(f"there is no file {path}{_instead(path)}")
    if path.suffix not in (*YAMLS, ".pt"):
        path = path.with_name(f"{path.name}.yaml")
    return str(path.absolute()) if _is_here(path) else str(path)


def _instead(path: Path) -> str:
    """Return a hint for a missing checkpoint: the YAML of that name, a similar checkpoint, or how to train one."""
    known = {*configs.configs(), *(f"{name}.yaml" for name in configs.stock_configs())}
    if {f"{path.stem}.yaml", configs.without_letter(f"{path.stem}.yaml")} & known:
        return f"; without .pt, {path.stem} is built with random weights"
    here = sorted(map(str, [*Path().glob("*.pt"), *Path().glob("runs/*/*/weights/best.pt")]))
    near = nearest(path, here) or next(iter(here), None)
    return f"; did you mean {near!r}?" if near else "; yolo train makes one, runs/detect/train/weights/best.pt"


def labels(sources: Sequence[str], given: Sequence[str | Path] | None = None) -> list[str]:
    """Return labels for models: file names, prefixed with as many parent folders as needed to make them unique.

    Args:
        sources: Results of `find`.
        given: Names as written by the user, for error messages.

    Raises:
        ConfigError: A model is given twice or has no name, or the labels cannot be made unique.
    """
    for number, source in enumerate(sources):
        if source in sources[:number]:
            raise ConfigError(f"models: {str((given or sources)[number])!r} is named twice")
        if not _stem(source).strip("."):  # `..` would be the parent folder
            raise ConfigError(f"models: {str((given or sources)[number])!r} leaves a model without a name; rename it")
    paths = [(*Path(source).parts[:-1], _stem(source)) for source in sources]
    names: list[str] = []
    for depth in range(1, max(map(len, paths), default=0) + 1):
        names = [re.sub(r"[^\w.+-]", "_", "-".join(parts[-depth:]).strip("/\\")) for parts in paths]
        if len({name.lower() for name in names}) == len(names):  # some file systems are case-insensitive
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
    """Return whether a model of this name is built with random weights, so is not a .pt file."""
    return not str(given).strip().endswith(".pt")


def build(source: str, classes: int) -> "tuple[DetectionModel, str]":
    """Build a detector for a number of classes.

    Args:
        source: Result of `find`.
        classes: Number of classes.

    Returns:
        (DetectionModel, str): Model, and digest of its YAML or of its checkpoint file.

    Raises:
        ConfigError: The model is for another task.
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
    """Return the digest of a model's YAML dictionary and backbone weights, independent of the path of the YAML."""
    plain = {key: value for key, value in d.items() if key not in NOT_OF_IT}
    weights = str(getattr(d.get("backbone_weights"), "setting", None))
    plain["weights"] = hashlib.sha256(Path(weights).read_bytes()).hexdigest() if is_file(weights) else weights
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def measure(network: "torch.nn.Module", imgsz: int) -> tuple[int, float, int]:
    """Return the number of parameters, the GFLOPs and the bytes of float32 weights of a fused network."""
    import torch

    from yolo_lite.cost import cost, fused

    parameters, gflops = cost(network, imgsz)
    buffer = io.BytesIO()
    torch.save(fused(network).state_dict(), buffer)
    return parameters, gflops, buffer.tell()


def all_names() -> list[str]:
    """Return the names of all model YAMLs of Ultralytics and yolo_lite, with scale letters."""
    files = [f"{stem}.yaml" for stem in configs.stock_configs()]
    files += [name for name in configs.configs() if name.startswith("yolo")]
    scaled = (re.sub(r"^(yolov?\d+)(?=[-.])", rf"\1{letter}", name) for name in files for letter in "nsmlx")
    return list(dict.fromkeys(scaled))


@contextlib.contextmanager
def nothing_installed() -> Iterator[None]:
    """Keep Ultralytics and exporters from installing missing packages, so that they raise an error instead."""
    before = os.environ.get(NO_INSTALL)
    os.environ[NO_INSTALL] = "1"  # the only value that the oldest releases support
    sys.modules.setdefault(MNN_REPORTS, None)  # type: ignore[arg-type]  # None makes the import fail
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
    """Silence Ultralytics, and convert its errors while reading a model into a `ConfigError` of one sentence."""
    try:
        with silent(), errors_only(), nothing_installed():
            yield
    except ConfigError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _is_here(Path(source)):
            raise ConfigError(f"there is no model {str(given)!r}{suggest(Path(source).name, all_names())}") from None
        raise ConfigError(f"{given} cannot be read as a model: {typed_line(error)}") from None
