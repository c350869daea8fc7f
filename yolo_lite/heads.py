"""Light and slim heads: Ultralytics' heads with depthwise branches or with branches of few channels.

They are subclasses, so losses, decoding, validation, end-to-end mode and export remain Ultralytics', which selects the
task by the class name and the loss by the type.
"""

import copy
import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.block import DFL as UltralyticsDFL
from ultralytics.nn.modules.conv import Conv, DWConv
from ultralytics.nn.modules.head import OBB, OBB26, Detect, Pose, Pose26, Segment, Segment26

from yolo_lite.blocks import start_evenly
from yolo_lite.registry import Class, Count, Rule, Scale, register

KERNEL = 5  # kernel size of the depthwise convolutions, as in the light neck

Build = Callable[[int, nn.Sequential], nn.Sequential]  # (input channels of a level, Ultralytics' branch) -> our branch
Call = tuple[list[Any], int]  # the constructor's arguments, output channels


def _head(c1: list[int], scale: Scale, *args: Any) -> Call:
    """Append reg_max and end2end (YAML keys of these names) and the input channels, as Ultralytics does for heads."""
    return [*args, scale.reg_max, scale.end2end, c1], 0


def _detect(c1: list[int], scale: Scale, nc: Count) -> Call:
    return _head(c1, scale, nc)


def _segment(c1: list[int], scale: Scale, nc: Count, nm: Count = 32, npr: Count = 256) -> Call:
    return _head(c1, scale, nc, nm, scale.channels(npr))


def _pose(c1: list[int], scale: Scale, nc: Count, kpt_shape: list[int]) -> Call:
    return _head(c1, scale, nc, kpt_shape)


def _obb(c1: list[int], scale: Scale, nc: Count, ne: Count = 1) -> Call:
    return _head(c1, scale, nc, ne)


def _register(rule: Rule) -> Callable[[Class], Class]:
    return register(rule=rule, inputs=None, repeats="once")


class DFL(UltralyticsDFL):
    """Ultralytics' DFL without a softmax across channels; (B, 4 * bins, A) -> (B, 4, A), the mean of each distribution.

    That softmax alone takes 7 % of a light detector's latency in onnxruntime, which needs two transposes for it.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, a = x.shape
        x = x.view(b, 4, self.c1, a)
        weights = (x - x.amax(2, keepdim=True)).exp()  # (B, 4, bins, A)
        return (weights * self.conv.weight.view(1, 1, -1, 1)).sum(2) / weights.sum(2)


class _Branches(nn.Module):
    """Mixin that replaces branches built by Ultralytics' head, the next class in the MRO, with cheaper ones."""

    legacy = False  # Ultralytics' parser sets it on its own classes, where the last parsed model's value persists
    reg_max: int

    def __init__(self, nc: int, *args: Any) -> None:
        super().__init__(nc, *args)
        channels: list[int] = args[-1]
        if self.reg_max > 1:
            self.add_module("dfl", DFL(self.reg_max))
        for name, build in self.branches(nc, channels[0]).items():
            if hasattr(self, name):
                pairs = zip(channels, getattr(self, name), strict=True)
                setattr(self, name, nn.ModuleList(build(c, branch) for c, branch in pairs))
            if hasattr(self, f"one2one_{name}"):
                setattr(self, f"one2one_{name}", copy.deepcopy(getattr(self, name)))

    def branches(self, nc: int, wide: int) -> dict[str, Build]:
        """Return the functions that build the branches, by attribute name.

        Args:
            nc: Number of classes.
            wide: Channels of the finest level.
        """
        raise NotImplementedError


class _Light(_Branches):
    """Mixin with depthwise branches.

    Box, mask, keypoint and angle branches: the first 3x3 convolution, which is dense, is replaced by a depthwise 5x5
    and a 1x1. The class branch is a depthwise 5x5 and two 1x1 convolutions.
    """

    def branches(self, nc: int, wide: int) -> dict[str, Build]:
        def light(c: int, branch: nn.Sequential) -> nn.Sequential:
            first, *others = branch
            assert isinstance(first, Conv)
            return nn.Sequential(start_evenly(DWConv(c, c, KERNEL)), Conv(c, first.conv.out_channels, 1), *others)

        def classes(c: int, _: nn.Sequential) -> nn.Sequential:
            return nn.Sequential(start_evenly(DWConv(c, c, KERNEL)), Conv(c, wide, 1), nn.Conv2d(wide, nc, 1))

        return {"cv2": light, "cv3": classes, "cv4": light}


class _Slim(_Branches):
    """Mixin with dense box and class branches of few channels; mask, keypoint and angle branches are unchanged.

    The 3x3 convolutions have half as many channels as the finest level, at least 16. The box branch is two 3x3
    convolutions and a 1x1, the class branch a 3x3 and two 1x1.
    """

    def branches(self, nc: int, wide: int) -> dict[str, Build]:
        slim = max(16, wide // 2)

        def boxes(c: int, _: nn.Sequential) -> nn.Sequential:
            return nn.Sequential(Conv(c, slim, 3), Conv(slim, slim, 3), nn.Conv2d(slim, 4 * self.reg_max, 1))

        def classes(c: int, _: nn.Sequential) -> nn.Sequential:
            return nn.Sequential(Conv(c, slim, 3), Conv(slim, wide, 1), nn.Conv2d(wide, nc, 1))

        return {"cv2": boxes, "cv3": classes}


class _Pose26(Pose26):
    """Pose26 that keeps its keypoint decoding in exporters (ExecuTorch, TensorFlow), which check for the exact type."""

    def __setattr__(self, name: str, value: Any) -> None:
        decode = getattr(value, "__func__", None) if name == "kpts_decode" else None
        if isinstance(decode, functools.partial) and decode.keywords.get("is_pose26") is False:
            value = MethodType(functools.partial(decode, is_pose26=True), self)
        super().__setattr__(name, value)


@_register(_detect)
class LightDetect(_Light, Detect):
    """Boxes by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' Detect."""


@_register(_segment)
class LightSegment(_Light, Segment):
    """Masks by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' Segment."""


@_register(_segment)
class LightSegment26(_Light, Segment26):
    """YOLO26's masks by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' Segment26."""


@_register(_pose)
class LightPose(_Light, Pose):
    """Keypoints by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' Pose."""


@_register(_pose)
class LightPose26(_Light, _Pose26):
    """YOLO26's keypoints by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' Pose26."""


@_register(_obb)
class LightOBB(_Light, OBB):
    """Rotated boxes by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' OBB."""


@_register(_obb)
class LightOBB26(_Light, OBB26):
    """YOLO26's rotated boxes by depthwise branches; levels of (B, c, H, W) -> as Ultralytics' OBB26."""


@_register(_detect)
class SlimDetect(_Slim, Detect):
    """Boxes by slim branches; levels of (B, c, H, W) -> as Ultralytics' Detect."""


@_register(_segment)
class SlimSegment(_Slim, Segment):
    """Masks by slim branches; levels of (B, c, H, W) -> as Ultralytics' Segment."""


@_register(_segment)
class SlimSegment26(_Slim, Segment26):
    """YOLO26's masks by slim branches; levels of (B, c, H, W) -> as Ultralytics' Segment26."""


@_register(_pose)
class SlimPose(_Slim, Pose):
    """Keypoints by slim branches; levels of (B, c, H, W) -> as Ultralytics' Pose."""


@_register(_pose)
class SlimPose26(_Slim, _Pose26):
    """YOLO26's keypoints by slim branches; levels of (B, c, H, W) -> as Ultralytics' Pose26."""


@_register(_obb)
class SlimOBB(_Slim, OBB):
    """Rotated boxes by slim branches; levels of (B, c, H, W) -> as Ultralytics' OBB."""


@_register(_obb)
class SlimOBB26(_Slim, OBB26):
    """YOLO26's rotated boxes by slim branches; levels of (B, c, H, W) -> as Ultralytics' OBB26."""
