"""Pairs of layers with the same role in two YOLO models, found from structure rather than from a list of models.

A model is split into *units*, the smallest modules that a map passes through in sequence: rows, the layers of a
backbone stage, the convolutions of each head branch. Units of two models are paired by section, stride and kind, in
order. Within paired units, layers are paired by the roles in `ROLES`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import nn
from ultralytics.nn.modules.block import C2PSA, C3, PSA, SPPF, Bottleneck, C2f, Proto, PSABlock
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.modules.head import Detect

from yolo_lite.backbones._stage import Stage
from yolo_lite.weights.by_role import neck_start

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

Layer: TypeAlias = nn.Module  # a `Conv`, or a bare convolution with a bias
Maps: TypeAlias = Any  # a tensor (B, C, H, W), or a list of tensors

BRANCH = re.compile(r"(?P<copy>one2one_)?(?P<branch>cv\d+)(?P<part>_\w+)?")  # branches of a head, one per level
TRACED = 256  # image size in pixels for tracing
IMAGE = -1  # unit number that stands for the image


class Row(NamedTuple):
    """An entry of `ROLES`: the path of a layer in its block, and which part of its outputs has the role."""

    role: str
    path: str  # "*" after a dot: a list of consecutive blocks
    half: int = 0  # 1 or 2 for the first or second half of the outputs, 0 for all
    added: bool = False  # whether its output is added to the block's input if the block has a shortcut


_CSP = (Row("pass", "cv1", 1), Row("in", "cv1", 2), Row("m", "m.*"), Row("out", "cv2"))
ROLES: tuple[tuple[type[nn.Module], tuple[Row, ...]], ...] = (
    (Conv, (Row("out", ""),)),
    (nn.Conv2d, (Row("out", ""),)),
    (nn.ConvTranspose2d, (Row("out", ""),)),
    (Bottleneck, (Row("hidden", "cv1"), Row("out", "cv2", added=True))),
    (C2f, _CSP),
    (C2PSA, _CSP),
    (PSA, _CSP[:2] + (Row("out", "cv2"),)),
    (C3, (Row("in", "cv1"), Row("m", "m.*"), Row("pass", "cv2"), Row("out", "cv3"))),
    (SPPF, (Row("reduced", "cv1"), Row("out", "cv2"))),
    (
        PSABlock,
        (
            Row("qkv", "attn.qkv"), Row("position", "attn.pe"), Row("projection", "attn.proj", added=True),
            Row("hidden", "ffn.0"), Row("out", "ffn.1", added=True),
        ),
    ),
    (Proto, (Row("first", "cv1"), Row("larger", "upsample"), Row("second", "cv2"), Row("out", "cv3"))),
)  # fmt: skip


class Part(NamedTuple):
    """Output channels of a layer that have one role."""

    role: str
    layer: Layer
    start: int
    stop: int
    tie: str  # role of the channels that these are added to, "" for none
    block: nn.Module  # the block that contains the layer


@dataclass
class Unit:
    """A module that maps pass through, and its position in the model."""

    name: str
    module: nn.Module
    inputs: tuple[int, ...]  # unit numbers
    several: bool  # whether it takes a list of maps
    section: str  # backbone, neck, or a branch of the head such as "cv2"
    level: int = 0  # log2 of the output stride
    before: int = 0  # log2 of the input stride
    ends: bool = False  # whether no other unit reads its output
    parts: list[Part] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Kind of the unit: "down", "conv", "context", "attention" or "block"; "" if it has no layers."""
        if not layers_of(self.module):
            return ""
        if isinstance(self.module, Conv):
            return "down" if self.level > self.before else "conv"
        if isinstance(self.module, SPPF | C2PSA | PSA) or "ASPP" in type(self.module).__name__:
            return "attention" if isinstance(self.module, C2PSA | PSA) else "context"
        return "block"

    def run(self, maps: Sequence[Maps]) -> Maps:
        """Return the output for the given inputs."""
        return self.module(list(maps) if self.several else maps[0])


def outputs_of(layer: Layer) -> int:
    """Return the number of a layer's output channels."""
    return int(convolution(layer).out_channels)


def convolution(layer: Layer) -> Any:
    """Return the convolution of a layer."""
    return layer.conv if isinstance(layer, Conv) else layer


def is_depthwise(layer: Layer) -> bool:
    """Return whether a layer is depthwise, with one input channel per output channel."""
    conv = convolution(layer)
    return bool(conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1)


def layers_of(module: nn.Module) -> list[Layer]:
    """Return the layers inside a module."""
    inside = {id(each.conv) for each in module.modules() if isinstance(each, Conv)}
    kinds = Conv | nn.Conv2d | nn.ConvTranspose2d
    return [each for each in module.modules() if isinstance(each, kinds) and id(each) not in inside]


# Units ----------------------------------------------------------------------------------------------------------------


def units(model: "BaseModel") -> list[Unit]:
    """Return a model's units in execution order.

    Args:
        model: Any model built by Ultralytics' parser.
    """
    rows: Any = model.model
    d: Any = model.yaml
    neck = neck_start(d)
    found: list[Unit] = []
    ends: dict[int, int] = {}
    for number, row in enumerate(rows):
        froms = row.f if isinstance(row.f, list) else [row.f]
        inputs = tuple(ends[number + each if each < 0 else each] if number else IMAGE for each in froms)
        name = f"model.{number}"
        if isinstance(row, Detect):
            found += _head(name, row, inputs, len(found))
        else:
            section = "backbone" if number < neck else "neck"
            found += _chain(name, row, inputs, isinstance(row.f, list), section, len(found))
        ends[number] = len(found) - 1
    read = {each for unit in found for each in unit.inputs}
    for number, unit in enumerate(found):
        unit.ends = number not in read
    return found


def _chain(
    name: str, module: nn.Module, inputs: tuple[int, ...], several: bool, section: str, number: int
) -> list[Unit]:
    """Return the units of a module; a plain sequence or a stage is split into its children."""
    if not (type(module) is nn.Sequential or isinstance(module, Stage)) or not len(module):
        return [Unit(name, module, inputs, several, section, parts=list(parts(module)))]
    found: list[Unit] = []
    for key, child in module.named_children():
        found += _chain(f"{name}.{key}", child, inputs, several, section, number + len(found))
        inputs, several = (number + len(found) - 1,), False
    return found


def _head(name: str, head: Detect, inputs: tuple[int, ...], number: int) -> list[Unit]:
    """Return the units of a head's branches and of its mask prototypes."""
    found: list[Unit] = []
    ends: dict[tuple[str, int], int] = {}
    for key, child in head.named_children():
        match = BRANCH.fullmatch(key)
        if match and isinstance(child, nn.ModuleList):
            for level, branch in enumerate(child):
                whole = (match["copy"] or "") + match["branch"]
                takes = ends[whole, level] if match["part"] else inputs[level]
                found += _chain(f"{name}.{key}.{level}", branch, (takes,), False, key, number + len(found))
                ends[key, level] = number + len(found) - 1
        elif isinstance(child, Proto):
            several = type(child) is not Proto
            takes_all = inputs if several else inputs[:1]
            found += _chain(f"{name}.{key}", child, takes_all, several, key, number + len(found))
    return found


def parts(module: nn.Module, prefix: str = "", flow: str = "") -> Iterator[Part]:
    """Yield the parts of a block in execution order.

    Args:
        module: Block to describe.
        prefix: Prefix of the roles.
        flow: Role of the block's input channels.
    """
    rows = next((rows for kind, rows in ROLES if isinstance(module, kind)), ())
    here = flow
    for row in rows:
        if row.path.endswith("*"):
            blocks = module.get_submodule(row.path[:-2])
            for number, child in enumerate(blocks if isinstance(blocks, nn.ModuleList | nn.Sequential) else ()):
                for index, block in enumerate(child if isinstance(child, nn.Sequential) else [child]):
                    role = f"{prefix}{row.role}.{number}." + (f"{index}." if index else "")
                    last = None
                    for last in parts(block, role, here):
                        yield last
                    here = (last.tie or last.role) if last else ""
            continue
        layer = module.get_submodule(row.path)
        count = outputs_of(layer)
        start, stop = [(0, count), (0, count // 2), (count // 2, count)][row.half]
        tie = flow if row.added and getattr(module, "add", False) else ""
        yield Part(prefix + row.role, layer, start, stop, tie, module)
        if row.role == "in":
            here = prefix + row.role


# Tracing --------------------------------------------------------------------------------------------------------------


class Origins(dict[Layer, list[tuple[Layer | None, int] | None]]):
    """Origin of each layer's input channels: (layer, channel), with layer None for the image; None for a mixture."""


@torch.no_grad()
def trace(found: Sequence[Unit], channels: int, device: torch.device) -> Origins:
    """Fill in the levels of units, and determine which layer reads which channels of which other layer.

    Every layer's output is replaced by constant maps with a distinct number per channel, or by zero if it is added to
    another map. Concatenation, splitting, pooling and upsampling preserve the numbers, so a layer's input shows where
    its channels come from.

    Args:
        found: All units of a model in evaluation mode.
        channels: Number of image channels.
        device: Device of the model.
    """
    origins = Origins()
    known: dict[float, tuple[Layer | None, int]] = {float(1 + c): (None, c) for c in range(channels)}
    added = {part.layer for unit in found for part in unit.parts if part.tie}
    handles = []

    def before(layer: Layer, args: tuple[Any, ...]) -> None:
        if isinstance(args[0], torch.Tensor) and args[0].ndim == 4:
            middle = args[0][0, :, args[0].shape[2] // 2, args[0].shape[3] // 2].tolist()
            origins.setdefault(layer, [known.get(value) for value in middle])

    def after(layer: Layer, args: Any, out: torch.Tensor) -> torch.Tensor:
        if layer in added:
            return torch.zeros_like(out)
        first = 1 + len(known)
        known.update({float(first + c): (layer, c) for c in range(out.shape[1])})
        return torch.arange(first, first + out.shape[1]).to(out).view(1, -1, 1, 1).expand_as(out).clone()

    for layer in [layer for unit in found for layer in layers_of(unit.module)]:
        handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after)]
    try:
        image = torch.arange(1, 1 + channels).view(1, -1, 1, 1).expand(1, -1, TRACED, TRACED).float().to(device)
        maps: dict[int, Maps] = {IMAGE: image}
        for number, unit in enumerate(found):
            maps[number] = unit.run([maps[each] for each in unit.inputs])
            unit.before, unit.level = _level(maps[unit.inputs[0]]), _level(maps[number])
    finally:
        for handle in handles:
            handle.remove()
    return origins


def _level(maps: Maps) -> int:
    while isinstance(maps, list | tuple | dict):
        maps = next(iter(maps.values() if isinstance(maps, dict) else maps))
    return (TRACED // maps.shape[-1]).bit_length() - 1 if isinstance(maps, torch.Tensor) and maps.ndim == 4 else 0


def features(found: Sequence[Unit]) -> dict[int, int]:
    """Return the backbone units whose outputs are read outside the backbone, by output level.

    Args:
        found: All units of a model, traced.
    """
    read = {each for unit in found if unit.section != "backbone" for each in unit.inputs if each != IMAGE}
    return {found[each].level: each for each in sorted(read) if found[each].section == "backbone"}


# Pairs ----------------------------------------------------------------------------------------------------------------


def pairs(source: Sequence[Unit], target: Sequence[Unit]) -> dict[int, int]:
    """Pair the units of two models that have the same role.

    Args:
        source: Units of the model to transfer from, traced.
        target: Units of the model to transfer to, traced.

    Returns:
        (dict[int, int]): Unit number in the target -> unit number in the source.
    """
    theirs, ours = _groups(source), _groups(target)
    found: dict[int, int] = {}
    for key, numbers in ours.items():
        others = theirs.get(key, [])
        if key[2] == "attention" and not others:  # its output replaces that of the preceding pooling
            others = theirs.get((*key[:2], "context"), [])
        if key[0] == "backbone":  # the neck reads the last unit of a level
            numbers, others = numbers[::-1], others[::-1]
        found.update(zip(numbers, others, strict=False))
    branches, own = _branches(source), _branches(target)
    for (section, level), chain in own.items():
        other = branches.get((section, level)) or branches.get((section.removeprefix("one2one_"), level)) or []
        found.update(_along(source, other, target, chain))
    return found


def _groups(found: Sequence[Unit]) -> Mapping[tuple[str, int, str], list[int]]:
    groups = defaultdict(list)
    for number, unit in enumerate(found):
        if unit.kind and unit.section in ("backbone", "neck"):
            groups[unit.section, unit.level, unit.kind].append(number)
    return groups


def _branches(found: Sequence[Unit]) -> Mapping[tuple[str, int], list[int]]:
    """Return the numbers of the units that have layers, by head branch and level."""
    groups = defaultdict(list)
    for number, unit in enumerate(found):
        if unit.section not in ("backbone", "neck") and unit.kind:
            groups[unit.section, unit.before].append(number)
    return groups


def _along(
    source: Sequence[Unit], theirs: Sequence[int], target: Sequence[Unit], ours: Sequence[int]
) -> dict[int, int]:
    """Pair the layers of two branches: dense ones from the end, depthwise ones directly before paired dense ones."""
    own_dense = [number for number in ours if not is_depthwise(target[number].module)]
    dense = [number for number in theirs if not is_depthwise(source[number].module)]
    found = dict(zip(reversed(own_dense), reversed(dense), strict=False))
    own_others, others = set(ours).difference(own_dense), set(theirs).difference(dense)
    before = {own - 1: other - 1 for own, other in found.items() if own - 1 in own_others and other - 1 in others}
    return {**found, **before}
