"""Published weights into backbones: where they are, how they are read, and how they fit.

A model YAML asks for them with the key `backbone_weights`: null, `imagenet`, the path of a file, or
`{file: path, mean: [...], std: [...]}`. They are loaded when a model is built from the YAML file. What is stored with a
checkpoint says that they were, so a model rebuilt from a checkpoint never loads anything.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from yolo_lite._registry import ConfigError, suggest
from yolo_lite.blocks import ConvNormAct

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


class Request:
    """The value of `backbone_weights` in a dictionary that comes from a YAML file.

    It survives the host's deep copies, and is pickled, into a checkpoint, as a record that the weights are loaded.
    """

    def __init__(self, setting):
        self.setting, self.loaded = setting, None

    def __repr__(self):
        return f"Request({self.setting!r})"

    def __deepcopy__(self, memo):
        return self  # the host parses a copy; what happens to it is to be known of the original

    def __reduce__(self):
        return OrderedDict, (list({"loaded": self.loaded, "asked": repr(self.setting)}.items()),)


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


def check_setting(setting, record=True):
    """Check the value of `backbone_weights`.

    Args:
        setting: The value.
        record: Whether it may be a checkpoint's record that weights are loaded.

    Raises:
        ConfigError: It is none of those that the top of this file lists.
    """
    if setting is None or isinstance(setting, Request) or (isinstance(setting, str) and setting):
        return
    if isinstance(setting, dict):
        if "loaded" in setting and record:
            return
        if isinstance(setting.get("file"), str) and setting.keys() <= {"file", "mean", "std"}:
            check_normalisation(setting.get("mean", IMAGENET_MEAN), setting.get("std", IMAGENET_STD))
            return
    raise ConfigError(
        f"backbone_weights has to be null, imagenet, a path, or {{file: path, mean: [...], std: [...]}}, "
        f"found {setting!r}"
    )


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


def _one_line(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def prepare(d, specs, width):
    """Read the weights that a model dictionary asks for, before anything is built.

    Args:
        d: The model dictionary.
        specs: The registered modules.
        width: The backbone's width multiplier.

    Returns:
        (Callable | None): A function that loads them into the built layers and says what it did; None where none are
            asked for, or the model comes from a checkpoint.

    Raises:
        ConfigError: They do not exist or cannot be read.
    """
    from yolo_lite.backbones._stage import Stage
    from yolo_lite.backbones.timm_backbone import TimmBackbone

    request = d.get("backbone_weights")
    setting = request.setting if isinstance(request, Request) else request
    if setting is None or (isinstance(setting, dict) and "loaded" in setting):
        return None
    classes = [specs[row[2]].cls if row[2] in specs else None for row in d["backbone"]]
    rows = [i for i, cls in enumerate(classes) if cls and issubclass(cls, (Stage, TimmBackbone))]
    if not rows:
        raise ConfigError("backbone_weights is set, but no row of the backbone is a stage or a TimmBackbone")
    name, cls = d["backbone"][rows[0]][3][0], classes[rows[0]]
    if cls is TimmBackbone:
        source = find_timm(name, setting)
    else:
        name = cls.resolve(name)
        source = find(name, width, setting)
    weights = read(source)

    def apply(layers):
        if cls is TimmBackbone:
            loaded, total = layers[rows[0]].load(weights, source.mean, source.std)
        else:
            stages = torch.nn.ModuleList(layers[i] for i in rows)
            loaded, total = load(stages, name, weights, source.mean, source.std)
        text = (
            f"backbone_weights: {source.name} {source.tag} (licence: {source.licence}), {loaded} of {total} tensors; "
            f"mean {source.mean} and std {source.std} are taken care of, images stay in 0..1"
        )
        if isinstance(request, Request):
            request.loaded = f"{source.name} {source.tag}".strip()
        return text

    return apply


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
        with torch.device("meta"):
            own = timm.create_model(name).state_dict()
        fitting = sum(k in weights and weights[k].shape == v.shape for k, v in own.items())
        if fitting < 0.9 * len(own):  # the classifier may differ
            raise ConfigError(f"{source.name}: no weights of timm's {name}, {fitting} of its {len(own)} tensors fit")
        overlay = {"file": source.name, "hf_hub_id": None, "url": ""}
        try:
            return build(name, 3, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
        except Exception as error:
            raise ConfigError(f"{source.name}: no weights of timm's {name} ({_one_line(error)})") from None

    return source._replace(read=read_file)


def load(stages, variant, weights, mean, std):
    """Load a reference's weights into stages of ours, and fold the normalisation of its input into the first.

    Args:
        stages: The stages P1, P2, ... of one backbone, in order.
        variant: Its name.
        weights: The reference's state dict.
        mean: What the weights expect to be subtracted from an image in 0..1, per channel.
        std: What they expect it to be divided by.

    Returns:
        (int, int): Tensors loaded, tensors in the weights.

    Raises:
        ConfigError: A tensor does not have the shape that ours has; nothing is loaded.
    """
    counts = load_reference(stages, variant, weights)
    fold_normalisation(stages, torch.tensor(mean), torch.tensor(std))
    return counts


def load_reference(stages, variant, weights):
    """Load a reference's weights into the stages of a backbone.

    Both networks hold the same tensors in the same order, under other names; what the reference has beyond ours, at
    the end, is its classifier. For an image of one channel the first convolution is summed over its three, for more
    than three the further ones start at zero.

    Args:
        stages: A `Backbone`, or its first stages, in order.
        variant: The backbone's name, which is its reference's.
        weights: A state dict. Its names may be those of the reference, in any order (.safetensors files are sorted),
            or any others, in the reference's order.

    Returns:
        (int, int): Tensors loaded, tensors in the weights.

    Raises:
        ConfigError: A tensor does not have the shape that ours has; nothing is loaded.
    """
    own = {k: v for k, v in stages.state_dict().items() if _counts(k)}
    order = reference_names(variant)
    names = order if set(order[: len(own)]) <= weights.keys() else [k for k in weights if _counts(k)]
    if len(names) < len(own):
        raise ConfigError(f"the weights have {len(names)} tensors, the backbone has {len(own)}")
    matched: dict[str, Any] = {}
    for index, ((name, tensor), their_name) in enumerate(zip(own.items(), names, strict=False)):
        theirs = weights[their_name]
        if index == 0 and theirs.ndim == 4 and theirs.shape[1] == 3 != tensor.shape[1]:
            pass  # the image's channels: adapted after the normalisation is folded in
        elif tensor.shape != theirs.shape:
            raise ConfigError(
                f"the weights do not fit: {their_name} has the shape {tuple(theirs.shape)}, "
                f"the backbone's {name} in its place has {tuple(tensor.shape)}"
            )
        matched[name] = theirs
    first = next(iter(own))
    stem = _stem(stages)
    if matched[first].shape != own[first].shape:
        stem.conv.weight = torch.nn.Parameter(matched.pop(first).to(own[first]))  # three channels until it is folded
    stages.load_state_dict(matched, strict=False)
    return len(own), sum(map(_counts, weights))


def _counts(name):
    """Tell whether a tensor is a weight or a statistic, not BatchNorm's count of batches, which nothing here uses."""
    return not name.endswith("num_batches_tracked")


def _stem(stages):
    return next(module for module in stages.modules() if isinstance(module, ConvNormAct))


def reference_names(name):
    """Return the names of a reference network's tensors, from first layer to last; none if no package has it."""
    import timm
    import torchvision

    with torch.device("meta"):  # no memory, no random numbers
        if timm.is_model(name):
            model = timm.create_model(name)
        elif name in torchvision.models.list_models():
            model = torchvision.models.get_model(name, weights=None)
        else:
            return []
    return [key for key in model.state_dict() if _counts(key)]


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


@torch.no_grad()
def fold_normalisation(stages, mean, std):
    """Make a backbone that expects (x - mean) / std take x instead, by changing its first convolution and BatchNorm.

    Args:
        stages: A backbone whose first module with weights is a `ConvNormAct`, of three input channels.
        mean: (3,)
        std: (3,)
    """
    stem = _stem(stages)
    weight = stem.conv.weight  # (c2, 3, k, k)
    weight /= std.to(weight).view(1, -1, 1, 1)
    # The convolution's output is larger by the response to the mean; BatchNorm subtracts that with its own mean.
    stem.bn.running_mean += (weight * mean.to(weight).view(1, -1, 1, 1)).sum((1, 2, 3))
    channels = stem.conv.in_channels
    if channels != weight.shape[1]:
        one = weight.sum(1, keepdim=True)
        more = torch.cat((weight, weight.new_zeros(len(weight), max(channels - 3, 0), *weight.shape[2:])), 1)
        stem.conv.weight = torch.nn.Parameter(one if channels == 1 else more[:, :channels].clone())
