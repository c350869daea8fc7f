"""Candidates of a search, as model YAMLs: stock models, the same shrunk, our configs, and what `make` composes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yolo_lite.compare import baselines
from yolo_lite.compose.recipe import Recipe
from yolo_lite.errors import ConfigError
from yolo_lite.ultralytics_hooks.configs import configs

BASES = ("yolov8", "yolo11", "yolo26")
BACKBONES = (  # one per family, two where its variants differ
    "csplite_100", "mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv3_small_100",
    "mobilenetv4_conv_small", "mnasnet_100", "ghostnet_100", "ghostnetv2_100", "shufflenet_v2_x1_0",
    "efficientnet_lite0",
)  # fmt: skip
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0)
PARTS = (("base", "base"), ("slim", "slim"), ("light", "light"), ("light", "slim"))  # compatible (neck, head) pairs
SHRUNK = (0.375, 0.5, 0.625, 0.75, 0.875)
SIZES = (1.0, 0.8, 0.6)  # fractions of the requested image size
SCALES = ("n", "s")
SHIPPED = "shipped"  # neck and head of a candidate that is one of our configs
TASKS = ("seg", "pose", "obb", "cls")  # last part of the names of configs that are no detectors


@dataclass(frozen=True)
class Candidate:
    """A candidate model and its image size.

    Attributes:
        base: Name of the stock model that it is or is made from, without a scale letter.
        scale: Scale letter of the stock model.
        imgsz: Height and width of the input image, in pixels.
        backbone: Name of the backbone that replaces the base's own; None for a stock or shrunk model; the rest of the
            file's name for one of our configs.
        width: Width multiplier (alpha) of the backbone, or of all channels if `backbone` is None.
        neck, head: Names of the neck and head, as in `yolo-lite make`; `SHIPPED` for one of our configs.
    """

    base: str
    scale: str
    imgsz: int
    backbone: str | None = None
    width: float = 1.0
    neck: str = "base"
    head: str = "base"

    @property
    def family(self) -> str | None:
        """Backbone; `SHIPPED` for one of our configs, None for a stock or shrunk model."""
        return SHIPPED if self.neck == SHIPPED else self.backbone

    @property
    def name(self) -> str:
        """Stem of the YAML file, written so that Ultralytics cannot mistake a part of it for another scale."""
        name = f"{self.base}{self.scale}"
        if self.family == SHIPPED:
            return f"{name}-{self.backbone}"
        if self.backbone is not None:
            parts = [part for part in dict.fromkeys((self.neck, self.head)) if part != "base"]
            name = "-".join([name, self.backbone.replace("_", ""), f"a{self.width:g}", *parts])
        elif self.width != 1:
            name += f"-w{self.width:g}"
        return name.replace(".", "p")

    @property
    def label(self) -> str:
        """Name in tables: `name` and the image size."""
        return f"{self.name}-{self.imgsz}"

    def text(self, pretrained: bool = False) -> str:
        """Return the text of the model YAML; with `pretrained`, that of a stock model requests the transfer, too.

        Raises:
            ConfigError: Base, backbone, neck and head cannot be combined.
        """
        from yolo_lite.compose.make import compose

        if self.family == SHIPPED:
            return configs()[f"{self.base}-{self.backbone}.yaml"].read_text("utf-8")
        if self.backbone is None:
            return baselines.text_of(baselines.shrunk(f"{self.base}{self.scale}", self.width), pretrained)
        wanted = {"base": self.base, "backbone": self.backbone, "neck": self.neck, "head": self.head}
        return compose(Recipe.of({**wanted, "width": self.width, "scale": self.scale, "count": False}))


def space(
    imgsz: int, bases: Sequence[str] = BASES, backbones: Sequence[str] = BACKBONES, step: int = 32
) -> list[Candidate]:
    """Return all candidates, without duplicates.

    Args:
        imgsz: Largest image size, in pixels.
        bases: Names of stock models, without a scale letter.
        backbones: Names of backbones, as in `yolo-lite list`; our configs are candidates only with the default ones.
        step: Image sizes are multiples of this.
    """
    return list(dict.fromkeys(_all(imgsz, bases, backbones, step)))


def _all(imgsz: int, bases: Sequence[str], backbones: Sequence[str], step: int) -> Iterator[Candidate]:
    sizes = dict.fromkeys(max(step, round(imgsz * part / step) * step) for part in SIZES)
    for base, size in itertools.product(bases, sizes):
        for scale in SCALES:
            yield Candidate(base, scale, size)
        for width in SHRUNK:
            yield Candidate(base, "n", size, width=width)
        if tuple(backbones) == BACKBONES:
            for config in shipped(base):
                for scale in SCALES if config.startswith("lite") else SCALES[:1]:
                    yield Candidate(base, scale, size, config, neck=SHIPPED, head=SHIPPED)
        for scale, backbone, width, (neck, head) in itertools.product(SCALES, backbones, WIDTHS, PARTS):
            if scale == "n" or neck != "base":  # the neck of scale s is heavier than these backbones
                yield Candidate(base, scale, size, backbone, width, neck, head)


def shipped(base: str) -> list[str]:
    """Return the names of our detection configs for a base, without the base's name."""
    names = [name.removesuffix(".yaml").removeprefix(f"{base}-") for name in configs() if name.startswith(f"{base}-")]
    return [name for name in names if name.rpartition("-")[2] not in TASKS and name != "timm"]


def buildable(candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Yield the candidates whose parts can be combined, with the texts of their YAMLs."""
    for each in candidates:
        try:
            yield each, each.text()
        except ConfigError:  # the head does not exist for the base, or the width makes the backbone too narrow
            continue
