"""Find operators of a model that edge compilers are known to handle badly, according to the vendors' documentation."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from ultralytics.nn.modules.block import DFL

from yolo_lite.backbones._stage import Stage
from yolo_lite.blocks import GhostModule, ShuffleUnitV1, ShuffleUnitV2, SqueezeExcite


class Claim(NamedTuple):
    """Statement of a vendor about an operator."""

    operator: str
    compiler: str
    says: str
    page: str


@dataclass(frozen=True)
class Finding:
    """Claim that applies to a model."""

    claim: Claim
    count: int
    rows: list[int]  # row indices in the YAML; empty for a backbone
    switch: str  # how to avoid the operator


CORAL = "https://coral.ai/docs/edgetpu/models-intro/"
CORAL_HSWISH = "https://github.com/google-coral/edgetpu/issues/353"
EFFICIENTNET_LITE = "https://blog.tensorflow.org/2020/03/higher-accuracy-on-vision-models-with-efficientnet-lite.html"
NNAPI = "https://developer.android.com/ndk/reference/group/neural-networks"
RKNN_YOLOV5 = "https://github.com/airockchip/yolov5/blob/master/README_rkopt.md"
RKNN_YOLOV8 = "https://github.com/airockchip/rknn_model_zoo/blob/main/examples/yolov8/README.md"
RKNN_OPERATORS = "https://github.com/rockchip-linux/rknn-toolkit2/blob/d8074d7/doc/RKNNToolKit2_OP_Support-1.4.0.md"

CLAIMS = [
    Claim("h-swish", "Edge TPU", "does not map it; its maintainers advise MobileNetV3 without it", CORAL_HSWISH),
    Claim(
        "h-swish",
        "NNAPI",
        "fuses only ReLUs into convolutions; has h-swish from Android 11 on, as a separate operator",
        NNAPI,
    ),
    Claim("SiLU", "Edge TPU", "EfficientNet-Lite uses ReLU6 instead, for int8", EFFICIENTNET_LITE),
    Claim("SiLU", "NNAPI", "fuses ReLU, ReLU1 and ReLU6 into convolutions, nothing else", NNAPI),
    Claim("SiLU", "RKNN", "Rockchip's own YOLOv5 uses ReLU instead", RKNN_YOLOV5),
    Claim("squeeze-excite", "Edge TPU", "not well supported; EfficientNet-Lite leaves it out", EFFICIENTNET_LITE),
    Claim("channel shuffle", "Edge TPU", "no tensor with more than three dimensions above 1; it has four", CORAL),
    Claim("channel shuffle", "NNAPI", "transposes tensors of up to four dimensions; it has five", NNAPI),
    Claim("nearest upsampling", "Edge TPU", "may be left to the CPU, depending on its size", CORAL),
    Claim("padding over 15", "RKNN", "convolutions pad 15 pixels at most on the NPU", RKNN_OPERATORS),
    Claim("DFL", "RKNN", "Rockchip's own YOLOv8 leaves it and the decoding to the CPU", RKNN_YOLOV8),
]
NOTES = [
    "NNAPI is deprecated since Android 15: https://developer.android.com/ndk/guides/neuralnetworks/migration-guide"
]

EDGE, ACTIVATION = "backbone_edge: true", "activation: nn.ReLU6()"
SWITCHES = {  # operator -> how to avoid it (in a native backbone, elsewhere)
    "h-swish": (EDGE, ACTIVATION),
    "SiLU": (EDGE, ACTIVATION),
    "squeeze-excite": (EDGE, "another network"),
    "channel shuffle": ("another family, like MobileNetV4", "another network"),
    "nearest upsampling": ("another family, like MobileNetV4", "nothing known: read the compiler's log"),
    "padding over 15": ("smaller dilations", "smaller dilations"),
    "DFL": ("reg_max: 1", "reg_max: 1"),
}


def _operators(module: nn.Module) -> Iterator[str]:
    """Yield the names of the operators in `CLAIMS` that a module implements."""
    for operator, kinds in _kinds().items():
        if isinstance(module, kinds):
            yield operator
    if isinstance(module, GhostModule) and module.attention is not None:
        yield "nearest upsampling"
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str) and max(module.padding) > 15:
        yield "padding over 15"


@functools.cache
def _kinds() -> dict[str, tuple[type[nn.Module], ...]]:
    """Return the classes of torch, Ultralytics, yolo_lite and timm that implement an operator with any settings."""
    from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
    from timm.models._efficientnet_blocks import SqueezeExcite as TimmSqueezeExcite

    return {
        "h-swish": (nn.Hardswish,),
        "SiLU": (nn.SiLU,),
        "squeeze-excite": (SqueezeExcite, SEModule, EffectiveSEModule, TimmSqueezeExcite),
        "channel shuffle": (ShuffleUnitV1, ShuffleUnitV2),
        "nearest upsampling": (nn.Upsample,),
        "DFL": (DFL,),
    }


def lint(model: nn.Module) -> list[Finding]:
    """Find operators of a model that edge compilers are known to handle badly.

    Args:
        model: Ultralytics model (`YOLO(...).model`) or backbone.

    Returns:
        (list[Finding]): Findings in the order of `CLAIMS`; native backbones and the rest have separate findings.
    """
    found: dict[tuple[str, bool], list[int | None]] = {}  # (operator, in a native backbone) -> row of each occurrence
    rows = getattr(model, "model", None)
    parts: list[tuple[int | None, nn.Module]] = [(None, model)] if rows is None else [*enumerate(rows)]
    for row, part in parts:
        native = any(isinstance(module, Stage) for module in part.modules())
        for _, module in part.named_modules(remove_duplicate=False):  # Ultralytics shares one activation
            for operator in _operators(module):
                found.setdefault((operator, native), []).append(row)
    return [
        Finding(claim, len(rows), sorted({row for row in rows if row is not None}), SWITCHES[operator][not native])
        for claim in CLAIMS
        for (operator, native), rows in found.items()
        if operator == claim.operator
    ]
