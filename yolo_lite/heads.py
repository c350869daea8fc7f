"""Light and slim heads: Ultralytics' own, with depthwise convolutions, or with few channels, in their branches.

They are subclasses, so losses, decoding, validation, end-to-end mode and export stay the host's, which chooses the task
by the class's name and the loss by its type.
"""

import copy

from torch import nn
from ultralytics.nn.modules import block
from ultralytics.nn.modules.conv import Conv, DWConv
from ultralytics.nn.modules.head import OBB, OBB26, Detect, Pose, Pose26, Segment, Segment26

from yolo_lite.blocks import start_evenly
from yolo_lite.registry import Count, register

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


class _Branches:
    """Replaces branches that Ultralytics' head has built by cheaper ones."""

    legacy = False  # Ultralytics' parser sets it on its own classes, as the last model it parsed had it

    def __init__(self, nc, *args):
        super().__init__(nc, *args)
        channels = args[-1]
        if self.reg_max > 1:
            self.dfl = DFL(self.reg_max)
        for name, build in self.branches(nc, channels[0]).items():
            if hasattr(self, name):
                pairs = zip(channels, getattr(self, name), strict=True)
                setattr(self, name, nn.ModuleList(build(c, branch) for c, branch in pairs))
            if hasattr(self, f"one2one_{name}"):
                setattr(self, f"one2one_{name}", copy.deepcopy(getattr(self, name)))


class _Light(_Branches):
    """Depthwise branches.

    Box, mask, keypoint and angle branches: the first 3x3 convolution, which sees all channels, becomes a depthwise 5x5
    and a 1x1. The class branch becomes a depthwise 5x5 and two 1x1.
    """

    def branches(self, nc, wide):
        def light(c, branch):
            first, *others = branch
            return nn.Sequential(start_evenly(DWConv(c, c, KERNEL)), Conv(c, first.conv.out_channels, 1), *others)

        def classes(c, _):
            return nn.Sequential(start_evenly(DWConv(c, c, KERNEL)), Conv(c, wide, 1), nn.Conv2d(wide, nc, 1))

        return {"cv2": light, "cv3": classes, "cv4": light}


class _Slim(_Branches):
    """Dense branches of half as many channels as the finest level has; mask, keypoint and angle branches as they are.

    The box branch is two 3x3 convolutions and a 1x1, the class branch a 3x3 and two 1x1.
    """

    def branches(self, nc, wide):
        slim = max(16, wide // 2)

        def boxes(c, _):
            return nn.Sequential(Conv(c, slim, 3), Conv(slim, slim, 3), nn.Conv2d(slim, 4 * self.reg_max, 1))

        def classes(c, _):
            return nn.Sequential(Conv(c, slim, 3), Conv(slim, wide, 1), nn.Conv2d(wide, nc, 1))

        return {"cv2": boxes, "cv3": classes}


HEADS = {  # Ultralytics' head -> how its row is read
    Detect: _detect,
    Segment: _segment,
    Segment26: _segment,
    Pose: _pose,
    Pose26: _pose,
    OBB: _obb,
    OBB26: _obb,
}
for kind in (_Light, _Slim):  # LightDetect, SlimDetect, ...; checkpoints name them as members of this module
    for host, rule in HEADS.items():
        name = kind.__name__.strip("_") + host.__name__
        text = f"{name}: levels of (B, c, H, W) -> as Ultralytics' {host.__name__}."
        members = {"__doc__": text, "__module__": __name__}
        globals()[name] = register(type(name, (kind, host), members), rule=rule, inputs=None, repeats="once")
