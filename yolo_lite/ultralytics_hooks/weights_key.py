"""Weights into backbones: what a YAML asks for, and how a reference's tensors fit ours.

A model YAML asks for them with the key `backbone_weights`: null, `imagenet`, the path of a file, or
`{file: path, mean: [...], std: [...]}`. They are loaded when a model is built from the YAML file. What is stored with a
checkpoint says that they were, so a model rebuilt from a checkpoint never loads anything.
"""

from collections import OrderedDict

import torch

from yolo_lite.errors import ConfigError
from yolo_lite.registry import NO_EDGE_WEIGHTS
from yolo_lite.weights.loading import load
from yolo_lite.weights.published import IMAGENET_MEAN, IMAGENET_STD, check_normalisation, find, find_timm, read


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
