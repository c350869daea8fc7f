"""Weights into backbones: what a YAML asks for, and how a reference's tensors fit ours.

A model YAML asks for them with the key `backbone_weights`: null, `imagenet`, the path of a file, or
`{file: path, mean: [...], std: [...]}`. They are loaded when a model is built from the YAML file. What is stored with a
checkpoint says that they were, so a model rebuilt from a checkpoint never loads anything.
"""

from collections import OrderedDict
from typing import Any

import torch
from ultralytics.nn.modules.conv import Conv

from yolo_lite._dry_run import without_memory
from yolo_lite._registry import NO_EDGE_WEIGHTS, ConfigError
from yolo_lite.sources import IMAGENET_MEAN, IMAGENET_STD, check_normalisation, find, find_timm, read


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
        if d.get("backbone_edge") and cls.has_edge_form(name):
            raise ConfigError(f"backbone_edge: true {NO_EDGE_WEIGHTS}; set backbone_weights: null")
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
    names = order if order and set(order[: len(own)]) <= weights.keys() else [k for k in weights if _counts(k)]
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
    return next(module for module in stages.modules() if isinstance(module, Conv))


def reference_names(name):
    """Return the names of a reference network's tensors, from first layer to last; none if no package has it."""
    import timm
    import torchvision

    if timm.is_model(name):
        model = without_memory(lambda: timm.create_model(name))
    elif name in torchvision.models.list_models():
        model = without_memory(lambda: torchvision.models.get_model(name, weights=None))
    else:
        return []
    return [key for key in model.state_dict() if _counts(key)]


@torch.no_grad()
def fold_normalisation(stages, mean, std):
    """Make a backbone that expects (x - mean) / std take x instead, by changing its first convolution and BatchNorm.

    Args:
        stages: A backbone whose first module with weights is a `Conv`, of three input channels.
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
