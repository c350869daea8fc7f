"""`yolo-lite list`: the backbones, what they cost, and which weights are published."""

from yolo_lite.backbones import Backbone
from yolo_lite.cost import cost
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.weights.published import WIDTHS, published

HEADER = ("backbone", "family", "params", "GFLOPs@640", "channels of P1 to P5", "ImageNet weights at width", "licence")


def show_list(words, timm=None):
    """Print a table of backbones.

    Args:
        words: Only those whose name or family has all of these words in it.
        timm: A pattern like `*repvit*`: print timm's networks of such names instead.

    Raises:
        ConfigError: There is none.
    """
    if timm is not None:
        import timm as library

        names = library.list_models(timm)
        if not names:
            raise ConfigError(f"timm {library.__version__} has no network {timm!r}")
        print(*names, sep="\n")
        return
    chosen = {n: s for n, s in sorted(families().items()) if all(w in n or w in _family(s).lower() for w in words)}
    if not chosen:
        raise ConfigError(f"no backbone has {' and '.join(words)} in its name{suggest(words[0], families())}")
    print_table([HEADER, *(_row(name, stage) for name, stage in chosen.items())])
    print(f"\n{len(chosen)} backbones; timm's networks go by TimmBackbone: yolo-lite list timm='*repvit*'")


def print_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(name, stage):
    backbone = Backbone(stage, name)
    parameters, gflops = cost(backbone)
    sources = published_at(name)
    return (
        name,
        _family(stage),
        f"{parameters / 1e6:.2f} M",
        f"{gflops:.2f}",
        " ".join(map(str, backbone.channels)),
        ", ".join(f"{width:g}" for width in sources) or "-",
        ", ".join(sorted({source.licence for source in sources.values()})) or "-",
    )


def _family(stage):
    return stage.__name__.removesuffix("Stage")


def published_at(name):
    return {width: source for width in WIDTHS if (source := published(name, width)) is not None}
