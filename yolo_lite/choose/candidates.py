"""All models that a search may choose from, as YAMLs: stock ones, the same shrunk, and what `make` composes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yolo_lite.compare import baselines
from yolo_lite.compose.recipe import Recipe
from yolo_lite.errors import ConfigError

BASES = ("yolov8", "yolo11", "yolo26")
BACKBONES = (  # one of each family, and the sizes that differ
    "csplite_100", "mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv3_small_100",
    "mobilenetv4_conv_small", "mnasnet_100", "ghostnet_100", "ghostnetv2_100", "shufflenet_v2_x1_0",
    "efficientnet_lite0",
)  # fmt: skip
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0)
PARTS = (("base", "base"), ("slim", "slim"), ("light", "light"), ("light", "slim"))  # necks and heads that go together
SHRUNK = (0.375, 0.5, 0.625, 0.75, 0.875)
SIZES = (1.0, 0.8, 0.6)  # of the image size asked for
SCALES = ("n", "s")


@dataclass(frozen=True)
class Candidate:
    """A model, and the size of its images.

    Attributes:
        base: The stock model that it is or was made from.
        scale: Its letter.
        imgsz: Height and width of its images, pixels.
        backbone: In place of the base's own; None for a stock model.
        width: The backbone's alpha; of a stock model that of all channels.
        neck, head: As `yolo-lite make` calls them.
    """

    base: str
    scale: str
    imgsz: int
    backbone: str | None = None
    width: float = 1.0
    neck: str = "base"
    head: str = "base"

    @property
    def name(self) -> str:
        """What its YAML is called, without what Ultralytics could take for another scale."""
        name = f"{self.base}{self.scale}"
        if self.backbone is not None:
            parts = [part for part in dict.fromkeys((self.neck, self.head)) if part != "base"]
            name = "-".join([name, self.backbone.replace("_", ""), f"a{self.width:g}", *parts])
        elif self.width != 1:
            name += f"-w{self.width:g}"
        return name.replace(".", "p")

    @property
    def label(self) -> str:
        """What it is called in tables."""
        return f"{self.name}-{self.imgsz}"

    def text(self) -> str:
        """Return its YAML.

        Raises:
            ConfigError: Its parts do not go together.
        """
        from yolo_lite.compose.make import compose

        if self.backbone is None:
            return baselines.text_of(baselines.shrunk(f"{self.base}{self.scale}", self.width))
        wanted = {"base": self.base, "backbone": self.backbone, "neck": self.neck, "head": self.head}
        return compose(Recipe.of({**wanted, "width": self.width, "scale": self.scale, "count": False}))


def space(
    imgsz: int, bases: Sequence[str] = BASES, backbones: Sequence[str] = BACKBONES, step: int = 32
) -> list[Candidate]:
    """Return all candidates, each once.

    Args:
        imgsz: The largest image size, pixels.
        bases: Stock models, without a scale letter.
        backbones: Names of `yolo-lite list`.
        step: What image sizes are multiples of.
    """
    return list(dict.fromkeys(_all(imgsz, bases, backbones, step)))


def _all(imgsz: int, bases: Sequence[str], backbones: Sequence[str], step: int) -> Iterator[Candidate]:
    sizes = dict.fromkeys(max(step, round(imgsz * part / step) * step) for part in SIZES)
    for base, size in itertools.product(bases, sizes):
        for scale in SCALES:
            yield Candidate(base, scale, size)
        for width in SHRUNK:
            yield Candidate(base, "n", size, width=width)
        for scale, backbone, width, (neck, head) in itertools.product(SCALES, backbones, WIDTHS, PARTS):
            if scale == "n" or neck != "base":  # the neck of scale s is heavier than these backbones
                yield Candidate(base, scale, size, backbone, width, neck, head)


def buildable(candidates: Sequence[Candidate]) -> Iterator[tuple[Candidate, str]]:
    """Yield the candidates whose parts go together, with their YAMLs."""
    for each in candidates:
        try:
            yield each, each.text()
        except ConfigError:  # a head that a base has no form for, a backbone that a width leaves too narrow
            continue
