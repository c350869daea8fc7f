"""Published weights of backbones: where they are, and how they are read."""

import math
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import torch

from yolo_lite.backbones._stage import Published
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError, shown, suggest, typed_line
from yolo_lite.files import is_file
from yolo_lite.meta import without_memory
from yolo_lite.weights.loading import check_values

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PATIENCE = 10  # seconds until a server counts as unreachable
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 2.0)  # widths with published weights

HOLDERS = (
    "state_dict_ema",
    "model_ema",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
)  # keys of a checkpoint that may hold the state dict
WRAPPERS = ("module.", "_orig_mod.", "model.")  # prefixes added by DistributedDataParallel, torch.compile, Lightning
OF_A_MODEL = (
    "is a checkpoint of a whole model, not of a backbone; train with pretrained={path} and backbone_weights: null"
)

Weights: TypeAlias = dict[str, torch.Tensor]  # a state dict


class Source(NamedTuple):
    """Weights that can be read, and the input normalisation that they expect.

    `url` is the download address, "" if there is none; `cached` returns whether the file has been downloaded already.
    """

    name: str
    tag: str
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Callable[[], Weights]
    url: str = ""
    cached: Callable[[], bool] = lambda: False


def find(variant: str, width: float, setting: str | dict[str, Any]) -> Source:
    """Find weights for a backbone.

    Args:
        variant: Name of the backbone.
        width: Width multiplier of the backbone.
        setting: "imagenet", a path, or {file: path, mean: [...], std: [...]}.

    Returns:
        (Source): Source of the weights; nothing is read yet.

    Raises:
        ConfigError: If the file does not exist, or no weights are published for that width; the message lists the
            widths that have some.
    """
    if setting == "imagenet":
        source = published(variant, width)
        if source is None:
            widths = [f"{each:g}" for each in WIDTHS if published(variant, each)]
            exist = f"they exist at width {', '.join(widths)}" if widths else "there are none at any width"
            raise ConfigError(f"no published weights for {variant} at width {width:g}; {exist}")
        return source
    options = setting if isinstance(setting, dict) else {"file": setting}
    path = Path(os.path.expanduser(str(options.get("file"))))
    if not is_file(path):
        near = suggest(path.name.lower(), ["imagenet"])
        hint = near if "mean" in near else "; give its path, or imagenet, or null"
        raise ConfigError(f"backbone_weights: there is no file {shown(str(path))}{hint}")
    mean: Any = options.get("mean", IMAGENET_MEAN)
    std: Any = options.get("std", IMAGENET_STD)
    return Source(str(path), "", "the file's own", tuple(mean), tuple(std), lambda: read_weights(path))


def find_timm(name: str, setting: str | dict[str, Any]) -> Source:
    """Find weights for a `TimmBackbone`: timm's own for its name, or a file with timm's tensor names.

    Args:
        name: Name of the network in timm.
        setting: "imagenet", a path, or a dictionary, as for `find`.

    Raises:
        ConfigError: If the file does not exist, or timm publishes no weights for that network.
    """
    import timm

    from yolo_lite.backbones.timm_backbone import build

    if setting == "imagenet":
        published = _of_timm(name)
        if published is None:
            raise ConfigError(f"timm publishes no weights for {name}; set backbone_weights to a file or to null")
        return published._replace(read=lambda: dict(build(name, 3, pretrained=True).state_dict()))
    source = find(name, 1.0, setting)

    def read_file() -> Weights:
        weights = source.read()  # as data; timm then adapts names and channels, but reports little about errors
        own = without_memory(lambda: timm.create_model(name)).state_dict()
        fitting = sum(k in weights and weights[k].shape == v.shape for k, v in own.items())
        if fitting < 0.9 * len(own):  # the classifier may differ
            raise ConfigError(
                f"{source.name}: not the weights of timm's {name}, {fitting} of its {len(own)} tensors fit"
            )
        for key in own.keys() & weights.keys():
            if not key.endswith("num_batches_tracked"):
                check_values(key, key, weights[key])
        overlay = {"state_dict": weights}
        try:
            return dict(build(name, 3, pretrained=True, pretrained_cfg_overlay=overlay).state_dict())
        except Exception as error:
            raise ConfigError(f"{source.name}: not the weights of timm's {name} ({typed_line(error)})") from None

    return source._replace(read=read_file)


def check_normalisation(mean: Any, std: Any) -> None:
    """Check a mean and a standard deviation per channel.

    Args:
        mean: Mean per channel, as given by the user.
        std: Standard deviation per channel, as given by the user.

    Raises:
        ConfigError: If they are not three finite numbers each, or a standard deviation is not above 0.
    """
    for name, values in (("mean", mean), ("std", std)):
        numbers = isinstance(values, list | tuple) and all(type(x) in (int, float) for x in values)
        if not numbers or len(values) != 3 or not all(map(math.isfinite, values)):
            raise ConfigError(f"{name} has to be three finite numbers, one per channel, found {shown(values)}")
    if min(std) <= 0:
        raise ConfigError(f"std has to be above 0, found {shown(std)}")


def published(variant: str, width: float = 1.0) -> Source | None:
    """Return the source of a backbone's published ImageNet weights, None if there are none.

    Args:
        variant: Name of the backbone; at width 1, also the name of any other timm network.
        width: Width multiplier of the backbone.
    """
    stages = families()
    names = stages[variant].published.get(variant, []) if variant in stages else [Published("timm", variant)]
    for each in names:
        name = name_at(each, width)
        source = None if name is None else _of_timm(name) if each.package == "timm" else _of_torchvision(name)
        if source is not None:
            return source
    return None


def name_at(names: Published, width: float) -> str | None:
    """Return the name that a package would give to a network at a width, None if its names cannot express the width.

    Args:
        names: Naming scheme of the package for the network.
        width: Width multiplier of the network.
    """
    percent = round(width * 100)
    if not math.isclose(width * 100, percent):
        return None
    factor = f"{names.base * percent / 100:.2f}".rstrip("0")
    name = names.template.format(
        percent=percent, factor=(f"{factor}0" if factor.endswith(".") else factor).replace(".", "_")
    )
    return None if name == names.template and width != 1 else name


def is_of_timm(name: str) -> bool:
    """Return whether timm has a network of that name."""
    import timm

    return bool(timm.is_model(name))


def _of_timm(name: str) -> Source | None:
    import timm

    cfg = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if cfg is None or not (cfg.hf_hub_id or cfg.url or cfg.file):
        return None

    def read() -> Weights:
        return dict(timm.create_model(name, pretrained=True).state_dict())

    direct = str(cfg.url or "")
    url, cached = _of_hub(cfg) if cfg.hf_hub_id else (direct, lambda: _in_torch_hub(direct))
    if cfg.file:
        url = ""
    return Source(f"timm {name}", cfg.tag or "", cfg.license or "unknown", cfg.mean, cfg.std, read, url, cached)


def _of_hub(cfg: Any) -> tuple[str, Callable[[], bool]]:
    """Return the URL of a network's file on the Hugging Face Hub, and a function that checks if it is cached."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    repository, _, revision = cfg.hf_hub_id.partition("@")
    given = getattr(cfg, "hf_hub_filename", None)
    names = [given] if given else ["model.safetensors", "pytorch_model.bin"]  # timm takes the first one that exists

    def cached() -> bool:
        found = [try_to_load_from_cache(repository, name, revision=revision or None) for name in names]
        return any(isinstance(each, str) for each in found) or _in_torch_hub(cfg.url or "")

    return hf_hub_url(repository, names[0], revision=revision or None), cached


def _in_torch_hub(url: str) -> bool:
    return bool(url) and is_file(Path(torch.hub.get_dir(), "checkpoints", Path(url).name))


def _of_torchvision(name: str) -> Source | None:
    from torchvision.models import get_model_weights, list_models

    if name not in list_models():
        return None
    weights = get_model_weights(name).DEFAULT
    transform = weights.transforms()

    def read() -> Weights:
        return dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu"))

    return Source(
        f"torchvision {name}",
        weights.name,
        "see torchvision's model page",
        tuple(transform.mean),
        tuple(transform.std),
        read,
        weights.url,
        lambda: _in_torch_hub(weights.url),
    )


def read(source: Source) -> Weights:
    """Read a source's weights from the local cache or over the network.

    Raises:
        ConfigError: If the weights are not cached and cannot be downloaded, or the file cannot be read.
    """
    try:
        if source.url and not source.cached():
            _reach(source.url)
        return source.read()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the weights {source.name} {source.tag} are not in the local cache and cannot be downloaded "
            f"({typed_line(error)}); {_by_hand(source)}"
        ) from None


def _reach(url: str) -> None:
    """Connect to the server of a URL once, since the hub's own functions retry for a minute.

    Raises:
        OSError: If there is no connection within `PATIENCE` seconds.
    """
    address = urlsplit(url)
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(str(address.hostname)):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (80 if address.scheme == "http" else 443)
    with socket.create_connection((str(address.hostname), port), timeout=PATIENCE):
        pass


def _by_hand(source: Source) -> str:
    """Return instructions for when the automatic download is not possible."""
    if not source.url:
        return "connect to the network once, or set backbone_weights to a file or to null"
    name = Path(urlsplit(source.url).path).name
    usual = (source.mean, source.std) == (IMAGENET_MEAN, IMAGENET_STD)
    setting = name if usual else f"{{file: {name}, mean: {[*source.mean]}, std: {[*source.std]}}}"
    return f"fetch {source.url} by hand and set backbone_weights: {setting}, or null"


def read_weights(path: str | Path) -> Weights:
    """Read a state dict from a .pth, .pt or .safetensors file, as data, without executing code.

    Raises:
        ConfigError: If the file cannot be read, or contains anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights: Any = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if re.search(r"(ultralytics|yolo_lite)\.\w", str(error)):  # classes that torch refuses to unpickle
            raise ConfigError(f"{path}: {OF_A_MODEL.format(path=path)}") from None
        raise ConfigError(f"{path}: cannot be read as weights ({typed_line(error)})") from None
    if not isinstance(weights, Mapping):
        raise ConfigError(f"{path}: needs a state dict, names with tensors, found {type(weights).__name__}")
    if any(isinstance(value, torch.nn.Module) for value in weights.values()):
        raise ConfigError(f"{path}: {OF_A_MODEL.format(path=path)}")
    found = _state_dict(weights)
    if found is None:
        raise ConfigError(f"{path}: needs a state dict, names with tensors, found other values")
    return found


def _state_dict(value: Mapping[Any, Any], depth: int = 0) -> Weights | None:
    """Return the state dict nested in a checkpoint, up to four levels deep, without prefixes added by wrappers."""
    if value and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items()):
        weights = dict(value)
        for wrapper in WRAPPERS * 2:
            if all(name.startswith(wrapper) for name in weights):
                weights = {name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
        return weights
    inner = [value[key] for key in HOLDERS if isinstance(value.get(key), Mapping)] if depth < 4 else []
    return next(filter(None, (_state_dict(each, depth + 1) for each in inner)), None)
