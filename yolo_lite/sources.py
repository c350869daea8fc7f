"""Published weights of backbones: where they are, and how they are read."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from yolo_lite._dry_run import without_memory
from yolo_lite._registry import ConfigError, suggest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 1.6, 2.0)  # at which anybody published any


class Source(NamedTuple):
    """Weights that can be read, and what they expect of their input."""

    name: str
    tag: str
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Callable[[], dict[str, torch.Tensor]]


def find(variant, width, setting):
    """Find weights for a backbone.

    Args:
        variant: Its name.
        width: Its width multiplier.
        setting: "imagenet", a path, or {file: path, mean: [...], std: [...]}.

    Returns:
        (Source): Nothing is read yet.

    Raises:
        ConfigError: There is no such file, or no weights are published for that width; those that are get named.
    """
    if setting == "imagenet":
        source = published(variant, width)
        if source is None:
            widths = [f"{each:g}" for each in WIDTHS if published(variant, each)]
            exist = f"they exist at width {', '.join(widths)}" if widths else "there are none at any width"
            raise ConfigError(f"no published weights for {variant} at width {width:g}; {exist}")
        return source
    options = setting if isinstance(setting, dict) else {"file": setting}
    path = Path(str(options.get("file"))).expanduser()
    if not path.is_file():
        near = suggest(path.name.lower(), ["imagenet"])
        hint = near if "mean" in near else "; give its path, or imagenet, or null"
        raise ConfigError(f"backbone_weights: there is no file {str(path)!r}{hint}")
    mean, std = options.get("mean", IMAGENET_MEAN), options.get("std", IMAGENET_STD)
    return Source(str(path), "", "the file's own", tuple(mean), tuple(std), lambda: read_weights(path))


def find_timm(name, setting):
    """Find weights for a `TimmBackbone`: timm's own for its name, or a file with timm's names.

    Raises:
        ConfigError: There is no such file, or timm has none for that network.
    """
    import timm

    from yolo_lite.backbones.timm_backbone import build

    if setting == "imagenet":
        cfg = timm.get_pretrained_cfg(name)
        if cfg is None or not (cfg.hf_hub_id or cfg.url or cfg.file):
            raise ConfigError(f"timm publishes no weights for {name}; set backbone_weights to a file or to null")
        return Source(
            f"timm {name}",
            cfg.tag or "",
            cfg.license or "unknown",
            cfg.mean,
            cfg.std,
            lambda: build(name, 3, pretrained=True).state_dict(),
        )
    source = find(name, 1.0, setting)

    def read_file():
        weights = source.read()  # as data; timm then fits the names and the channels, but says little of what is wrong
        own = without_memory(lambda: timm.create_model(name)).state_dict()
        fitting = sum(k in weights and weights[k].shape == v.shape for k, v in own.items())
        if fitting < 0.9 * len(own):  # the classifier may differ
            raise ConfigError(f"{source.name}: no weights of timm's {name}, {fitting} of its {len(own)} tensors fit")
        overlay = {"file": source.name, "hf_hub_id": None, "url": ""}
        try:
            return build(name, 3, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
        except Exception as error:
            raise ConfigError(f"{source.name}: no weights of timm's {name} ({_one_line(error)})") from None

    return source._replace(read=read_file)


def check_normalisation(mean, std):
    """Check a mean and a standard deviation per channel.

    Raises:
        ConfigError: They are not three finite numbers each, or a standard deviation is not above 0.
    """
    for name, values in (("mean", mean), ("std", std)):
        numbers = isinstance(values, list | tuple) and all(type(x) in (int, float) for x in values)
        if not numbers or len(values) != 3 or not all(map(math.isfinite, values)):
            raise ConfigError(f"{name} has to be three finite numbers, one per channel, found {values!r}")
    if min(std) <= 0:
        raise ConfigError(f"std has to be above 0, found {std!r}")


def published(variant, width=1.0):
    """Return where timm or torchvision publish ImageNet weights of a backbone, None where they do not."""
    import timm

    for name in _timm_names(variant, width):
        cfg = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        if cfg is not None and (cfg.hf_hub_id or cfg.url or cfg.file):
            return Source(
                f"timm {name}", cfg.tag or "", cfg.license or "unknown", cfg.mean, cfg.std, _timm_reader(name)
            )
    from torchvision.models import get_model_weights, list_models

    name = _torchvision_name(variant, width)
    if name in list_models():
        weights = get_model_weights(name).DEFAULT
        transform = weights.transforms()
        return Source(
            f"torchvision {name}",
            weights.name,
            "see torchvision's model page",
            tuple(transform.mean),
            tuple(transform.std),
            lambda: weights.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu"),
        )
    return None


def _timm_names(variant, width):
    """timm writes a width in hundredths behind the name, and leaves it out at 1.0 in some families."""
    hundredths = f"{width * 100:03.0f}"
    return ([variant] if width == 1 else []) + [
        f"{variant.removesuffix('_100')}_{hundredths}" if variant.endswith("_100") else f"{variant}_{hundredths}"
    ]


def _torchvision_name(variant, width):
    """torchvision writes it as 0_5 or 1_0 where it has several."""
    match = re.fullmatch(r"(.*?)(\d)_(\d+)", variant)
    if not match:
        return variant if width == 1 else ""
    text = f"{float(f'{match[2]}.{match[3]}') * width:.2f}".rstrip("0")
    return match[1] + (text + "0" if text.endswith(".") else text).replace(".", "_")


def _timm_reader(name):
    def read():
        import timm

        return timm.create_model(name, pretrained=True).state_dict()

    return read


def read(source):
    """Read a source's weights, from the local cache or over the network.

    Raises:
        ConfigError: They are not in the cache and cannot be downloaded, or the file cannot be read.
    """
    try:
        return source.read()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the weights {source.name} {source.tag} are not in the local cache and cannot be downloaded "
            f"({_one_line(error)}); connect to the network once, or set backbone_weights to a file or to null"
        ) from None


def read_weights(path):
    """Read a state dict from a .pth, .pt or .safetensors file, as data, never as code.

    Raises:
        ConfigError: It cannot be read, or holds anything else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError(f"{path}: cannot be read as weights ({_one_line(error)})") from None
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise ConfigError(f"{path}: needs a state dict, names with tensors, found {type(weights).__name__}")
    return weights


def _one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
