"""Any timm network with feature maps as a backbone: `TimmBackbone`, and `Level` to select one of its levels.

Source: Wightman, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from yolo_lite import limits
from yolo_lite.blocks import norm_as_conv, to_fast_layout
from yolo_lite.errors import ConfigError, shown, suggest, typed_line
from yolo_lite.meta import is_about_meta, unbounded, without_memory
from yolo_lite.registry import Scale, register


class Levels(NamedTuple):
    """Channels of a network's levels, passed from a `TimmBackbone` row to the rows after it."""

    name: str
    channels: dict[int, int]  # level -> channels


@functools.lru_cache(maxsize=64)
def levels_of(name: str) -> Levels:
    """Return a network's levels from timm's feature info, without allocating memory for its weights.

    Args:
        name: timm's name, with or without a tag.

    Returns:
        (Levels): Channels of the available levels 1 to 5 (strides 2 to 32); the key 0 stands for other strides.

    Raises:
        ConfigError: timm does not have the network, or it provides no feature maps.
    """
    with unbounded():
        return Levels(name, dict(zip(*_taps(without_memory(lambda: build(name, 3))), strict=True)))


def build(name: str, c1: int, **options: Any) -> Any:  # a module with `feature_info`, which nn.Module's type lacks
    """Build a network that returns its feature maps, without a last 1x1 convolution that only serves the classifier.

    Args:
        name: timm's name.
        c1: Channels of the image.
        options: Further arguments of `timm.create_model`.

    Raises:
        ConfigError: timm does not have the network, or it has no feature maps with strides.
    """
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"timm {timm.__version__} has no network {name!r}{suggest(name, timm.list_models())}")
    try:
        net: Any = timm.create_model(name, features_only=True, in_chans=c1, **options)
        net.feature_info.reduction()
    except ConfigError:
        raise
    except Exception as error:
        if options or is_about_meta(error):  # the error may concern the options or the device, not the network
            raise
        # networks without feature maps raise various types of errors
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"timm's {name} yields no feature maps ({type(error).__name__}: {reason})") from None
    last = net.blocks[-1] if isinstance(getattr(net, "blocks", None), nn.Sequential) else None
    if isinstance(last, nn.Sequential) and len(last) == 1 and type(last[0]).__name__ == "ConvBnAct":
        net.blocks[-1] = nn.Identity()  # the last feature map is now the output of the block before it
    return net


def _taps(net: Any) -> tuple[list[int], list[int]]:
    """Return levels and channels of a network's feature maps; the level is 0 unless the stride is 2, 4, ... or 32."""
    strides, channels = net.feature_info.reduction(), net.feature_info.channels()
    if isinstance(getattr(net, "blocks", None), nn.Sequential) and isinstance(net.blocks[-1], nn.Identity):
        channels[-1] = [m for m in net.blocks.modules() if isinstance(m, nn.Conv2d)][-1].out_channels
    return [{2: 1, 4: 2, 8: 3, 16: 4, 32: 5}.get(stride, 0) for stride in strides], channels


@functools.lru_cache(maxsize=64)
def check_size(name: str) -> None:
    """Check that a network is not too large, without allocating memory for it.

    Raises:
        ConfigError: The network has too many parameters.
    """
    with unbounded():
        parameters = sum(each.numel() for each in without_memory(lambda: build(name, 3)).parameters())
    if parameters > limits.PARAMETERS:
        raise ConfigError(f"timm's {name} has {parameters:,} parameters; needed at most {limits.PARAMETERS:,}")


@functools.lru_cache(maxsize=64)
def check_fit(name: str) -> None:
    """Check that a network is not too large and accepts images of any size.

    A network that timm declares to have a fixed input size has to be run on the CPU to find out: on the meta device,
    networks that look up positions appear to work.

    Raises:
        ConfigError: The network has too many parameters, or accepts one image size only.
    """
    import timm

    check_size(name)
    published = timm.get_pretrained_cfg(name)
    if published is None or not published.fixed_input_size:
        return
    size = 320 if published.input_size[-1] != 320 else 256
    try:
        with unbounded(), torch.random.fork_rng(devices=[]), torch.no_grad(), torch.device("cpu"):
            build(name, 3).eval()(torch.zeros(1, 3, size, size))
    except Exception as error:
        raise ConfigError(
            f"timm's {name} takes images of {published.input_size[-1]} px only, "
            f"but a detector's image size varies ({typed_line(error)})"
        ) from None


def _timm_rule(c1: int, scale: Scale, name: str) -> tuple[list[Any], Levels]:
    name = name.removeprefix("timm/")  # the prefix that `make` accepts
    levels = levels_of(name)
    check_fit(name)
    return [c1, name], levels


@register(rule=_timm_rule, repeats="once")
class TimmBackbone(nn.Module):
    """A timm network; (B, c1, H, W) -> {level: (B, channels, H / 2**level, W / 2**level)}.

    It is pickled as its plain attributes (name, c1, timm's version, whether it is folded, ...) and its state dict, and
    rebuilt when loaded, so that checkpoints contain no timm classes.

    Args:
        c1: Channels of the image.
        name: timm's name, with or without a tag, optionally prefixed with `timm/`.

    Raises:
        ConfigError: timm does not have the network, or it provides no feature maps.
    """

    keeps_settings = True  # protects BatchNorm and activation settings, which Ultralytics would overwrite by type

    def __init__(self, c1: int, name: str) -> None:
        super().__init__()
        import timm

        name = name.removeprefix("timm/")
        self.c1, self.name, self.timm, self.folded = c1, name, timm.__version__, False
        self.net = build(name, c1)
        self.levels, _ = _taps(self.net)
        self.fast_layout = not any(map(_breaks_in_channels_last, self.net.modules()))
        self.normalisation: tuple[list[float], list[float]] | None = None  # mean and std of the loaded weights

    def forward(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        if self.normalisation is not None:
            mean, std = (x.new_tensor(values).view(1, -1, 1, 1) for values in self.normalisation)
            x = (x - mean) / std
        outputs = self.net(to_fast_layout(x) if self.fast_layout else x)
        return {level: y for level, y in zip(self.levels, outputs, strict=True) if level}

    def load(self, weights: Mapping[str, torch.Tensor], mean: Sequence[float], std: Sequence[float]) -> tuple[int, int]:
        """Load a state dict of the same network for images of three channels.

        The normalisation remains a separate operation: unlike in the native families, it cannot be folded into the
        first layers of an arbitrary network.

        Args:
            weights: State dict.
            mean: Per-channel mean that the weights expect to be subtracted from an image in 0..1.
            std: Per-channel standard deviation that the weights expect an image to be divided by.

        Returns:
            (int, int): Number of tensors loaded, number of tensors in the weights.
        """
        from timm.models import adapt_input_conv

        own = self.net.state_dict()
        fitting = {}
        for name, theirs in weights.items():
            mine = own[name]
            if theirs.shape != mine.shape and theirs.ndim == 4 and theirs.shape[1] == 3:
                theirs = adapt_input_conv(self.c1, theirs)
            fitting[name] = theirs
        self.net.load_state_dict(fitting)
        if self.c1 != 3:
            mean, std = ([sum(values) / 3] * self.c1 for values in (mean, std))
        self.normalisation = (list(mean), list(std))
        return len(fitting), len(weights)

    def fold(self) -> None:
        """Merge training-time branches, and merge BatchNorms into the convolutions before them, for inference.

        If that would change the outputs, the network is left unchanged (slower, but correct) and `folded` stays False.
        """
        folded = None if self.folded else _fold(self.net, self.c1)
        if folded is not None:
            self.net, self.folded = folded, True

    def __getstate__(self) -> dict[str, Any]:
        plain = {k: v for k, v in self.__dict__.items() if not k.startswith("_") and not isinstance(v, nn.Module)}
        return {**plain, "training": self.training, "state": dict(self.net.state_dict())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("state")
        check_size(state["name"])
        if type(state["c1"]) is not int or not 1 <= state["c1"] <= limits.IMAGE_CHANNELS:
            found, most = shown(state["c1"]), limits.IMAGE_CHANNELS
            raise ConfigError(f"the checkpoint's {state['name']} takes {found} channels; needed at most {most}")
        TimmBackbone.__init__(self, state["c1"], state["name"])
        try:
            if state["folded"]:
                self.fold()
            # `assign` keeps dtype and device of the saved tensors
            self.net.load_state_dict({k: v.detach() for k, v in saved.items()}, assign=True)
        except RuntimeError as error:
            raise ConfigError(
                f"the checkpoint's {state['name']} was made with timm {state['timm']}, and timm {self.timm} builds it "
                f"differently: pip install timm=={state['timm']} ({' '.join(str(error).split())[:200]})"
            ) from None
        self.__dict__.update(state)
        self.train(state["training"])


def _breaks_in_channels_last(module: nn.Module) -> bool:
    """Return whether a module is a strided 1x1 convolution of few channels (RepVGG, MobileOne).

    Its backward pass on a CPU writes out of bounds in the channels-last layout: observed with torch 2.15.0, 3 to 12
    input channels, maps of 128 px and more. The native families have no such convolution.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < 32
    )


def _level_rule(c1: int | Levels, scale: Scale, level: int) -> tuple[list[Any], int]:
    if not isinstance(c1, Levels):
        raise ConfigError(f"Level selects from a TimmBackbone, but the row before has {c1} channels")
    if level not in c1.channels:
        has = ", ".join(f"{k} (stride {2**k})" for k in sorted(c1.channels) if k)
        raise ConfigError(f"timm's {c1.name} has no level {level}; it has {has}")
    return [c1, level], c1.channels[level]


@register(rule=_level_rule, repeats="once", levels=True)
class Level(nn.Module):
    """Select one level of a `TimmBackbone`; {level: map} -> (B, channels, H / 2**level, W / 2**level)."""

    def __init__(self, levels: Levels, level: int) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Mapping[int, torch.Tensor]) -> torch.Tensor:
        return x[self.level]


@torch.no_grad()
def _fold(net: nn.Module, c1: int) -> nn.Module | None:
    """Return an equivalent network for inference, without training-time branches and BatchNorms.

    Outputs are compared in float64; if merging changes them, less is merged.

    Returns:
        (nn.Module | None): Merged network, None if every variant of merging changes the outputs.
    """
    like, training = next(net.parameters()), net.training
    net = copy.deepcopy(net).eval().to("cpu", torch.float64)
    image = torch.rand(1, c1, 128, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    try:
        before = net(image)
    except Exception:  # networks with a fixed input size
        size = getattr(net, "pretrained_cfg", {}).get("input_size", (3, 224, 224))[-1]
        image = nn.functional.interpolate(image, size=(size, size))
        before = net(image)
    for branches, norms in ((True, True), (True, False), (False, False)):
        folded = _merged(net, image, branches, norms)
        if all((a - b).abs().max() <= 1e-6 * b.abs().max() for a, b in zip(folded(image), before, strict=True)):
            return folded.to(like.device, like.dtype).train(training)
    return None


def _merged(net: nn.Module, image: torch.Tensor, branches: bool, norms: bool) -> nn.Module:
    """Return a copy of a network with its branches merged, and its BatchNorms merged into the preceding convolutions.

    The network is run once to find the convolution that each BatchNorm follows. A BatchNorm that is not merged is
    replaced by an equivalent depthwise 1x1 convolution.

    Args:
        net: Network in eval mode and float64.
        image: Image batch to run the network on.
        branches: Whether to merge branches.
        norms: Whether to merge BatchNorms into convolutions.
    """
    from timm.utils.model import reparameterize_model

    merged = copy.deepcopy(net)
    if branches:
        merged = reparameterize_model(merged, inplace=True).to(torch.float64)
    pairs = _followers(merged, image) if norms else {}
    for name, norm in [(n, m) for n, m in merged.named_modules() if isinstance(m, nn.BatchNorm2d)]:
        conv = pairs.get(norm)
        if conv is not None:
            _merge(conv, norm)
        rest = [] if conv is not None else [norm_as_conv(norm)]
        rest += [m for m in (getattr(norm, "drop", None), getattr(norm, "act", None)) if m is not None]
        parent, _, child = name.rpartition(".")
        setattr(merged.get_submodule(parent), child, nn.Sequential(*rest) if len(rest) != 1 else rest[0])
    return merged


def _followers(net: nn.Module, image: torch.Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Run a network and return the convolution before each BatchNorm, if both run once and belong to no other pair."""
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    runs: dict[nn.Module, int] = {}

    def after_conv(module: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        made[id(output)] = (module, output)  # keeps the tensor alive, so that its id is not reused
        runs[module] = runs.get(module, 0) + 1

    def before_norm(module: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        conv, _ = made.get(id(inputs[0]), (None, None))
        if conv is not None and conv.out_channels == module.num_features:
            pairs[module] = conv
        runs[module] = runs.get(module, 0) + 1

    hooks = [m.register_forward_hook(after_conv) for m in net.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before_norm) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    net(image)
    for hook in hooks:
        hook.remove()
    once = {norm: conv for norm, conv in pairs.items() if runs[norm] == runs[conv] == 1}
    return {norm: conv for norm, conv in once.items() if list(once.values()).count(conv) == 1}


def _merge(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Merge a BatchNorm into the convolution before it."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = torch.zeros_like(norm.running_mean) if conv.bias is None else conv.bias
    conv.weight = nn.Parameter(conv.weight * factor.view(-1, 1, 1, 1), requires_grad=False)
    conv.bias = nn.Parameter((bias - norm.running_mean) * factor + norm.bias, requires_grad=False)
