"""Light heads: Ultralytics' own, with depthwise convolutions in their branches.

They are subclasses, so losses, decoding, validation, end-to-end mode and export stay the host's, which chooses the task
by the class's name and the loss by its type.
"""

import copy

from torch import nn
from ultralytics.nn.modules import block
from ultralytics.nn.modules.conv import Conv, DWConv
from ultralytics.nn.modules.head import OBB, OBB26, Detect, Pose, Pose26, Segment, Segment26

from yolo_lite._registry import Count, register

KERNEL = 5  # of the depthwise convolutions, as in the light neck


def _head(c1, scale, *args):
    """As Ultralytics does for its heads, which take reg_max and end2end from the YAML's keys of these names."""
    return [*args, scale.reg_max, scale.end2end, c1], 0


def _detect(c1, scale, nc: Count):
    return _head(c1, scale, nc)


def _segment(c1, scale, nc: Count, nm: Count = 32, npr: Count = 256):
    return _head(c1, scale, nc, nm, scale.channels(npr))


def _pose(c1, scale, nc: Count, kpt_shape: list[int]):
    return _head(c1, scale, nc, kpt_shape)


def _obb(c1, scale, nc: Count, ne: Count = 1):
    return _head(c1, scale, nc, ne)


class DFL(block.DFL):
    """Ultralytics' DFL without a softmax across channels; (B, 4 * bins, A) -> (B, 4, A), the mean of each distribution.

    That softmax alone is 7 % of a light detector's time in onnxruntime, which transposes twice for it.
    """

    def forward(self, x):
        b, _, a = x.shape
        x = x.view(b, 4, self.c1, a)
        weights = (x - x.amax(2, keepdim=True)).exp()  # (B, 4, bins, A)
        return (weights * self.conv.weight.view(1, 1, -1, 1)).sum(2) / weights.sum(2)


class _Light:
    """Replaces the branches that Ultralytics' head has built by light ones.

    Box, mask, keypoint and angle branches: the first 3x3 convolution, which sees all channels, becomes a depthwise 5x5
    and a 1x1. The class branch becomes a depthwise 5x5 and two 1x1.
    """

    legacy = False  # Ultralytics' parser sets it on its own classes, as the last model it parsed had it

    def __init__(self, nc, *args):
        super().__init__(nc, *args)
        channels = args[-1]
        if self.reg_max > 1:
            self.dfl = DFL(self.reg_max)
        for name in ("cv2", "cv4"):
            if hasattr(self, name):
                branches = zip(channels, getattr(self, name), strict=True)
                setattr(self, name, nn.ModuleList(_light(c, branch) for c, branch in branches))
        self.cv3 = nn.ModuleList(
            nn.Sequential(DWConv(c, c, KERNEL), Conv(c, channels[0], 1), nn.Conv2d(channels[0], nc, 1))
            for c in channels
        )
        for name in ("cv2", "cv3", "cv4"):
            if hasattr(self, f"one2one_{name}"):
                setattr(self, f"one2one_{name}", copy.deepcopy(getattr(self, name)))


def _light(c, branch):
    first, *others = branch
    return nn.Sequential(DWConv(c, c, KERNEL), Conv(c, first.conv.out_channels, 1), *others)


@register(rule=_detect, inputs=None, repeats="once")
class LightDetect(_Light, Detect):
    """Light detection head; levels of (B, c, H, W) -> as Ultralytics' Detect."""


@register(rule=_segment, inputs=None, repeats="once")
class LightSegment(_Light, Segment):
    """Light segmentation head; levels of (B, c, H, W) -> as Ultralytics' Segment."""


@register(rule=_segment, inputs=None, repeats="once")
class LightSegment26(_Light, Segment26):
    """Light segmentation head; levels of (B, c, H, W) -> as Ultralytics' Segment26."""


@register(rule=_pose, inputs=None, repeats="once")
class LightPose(_Light, Pose):
    """Light keypoint head; levels of (B, c, H, W) -> as Ultralytics' Pose."""


@register(rule=_pose, inputs=None, repeats="once")
class LightPose26(_Light, Pose26):
    """Light keypoint head; levels of (B, c, H, W) -> as Ultralytics' Pose26."""


@register(rule=_obb, inputs=None, repeats="once")
class LightOBB(_Light, OBB):
    """Light rotated-box head; levels of (B, c, H, W) -> as Ultralytics' OBB."""


@register(rule=_obb, inputs=None, repeats="once")
class LightOBB26(_Light, OBB26):
    """Light rotated-box head; levels of (B, c, H, W) -> as Ultralytics' OBB26."""
