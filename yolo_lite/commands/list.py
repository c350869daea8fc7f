"""`yolo-lite list`: list the backbones with their cost and published weights."""

from collections.abc import Iterable, Sequence

from yolo_lite.arguments import parse
from yolo_lite.backbones import Backbone
from yolo_lite.backbones._stage import Stage
from yolo_lite.cost import cost
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.weights.published import WIDTHS, Source, published

HEADER = ("backbone", "family", "params", "GFLOPs@640", "channels of P1 to P5", "ImageNet weights at width", "licence")


def main(words: list[str]) -> int:
    """List the backbones whose name or family contains each of the words, or timm's networks that match a pattern."""
    values, others = parse("list", words)
    if values.get("timm"):
        show_timm(values["timm"])
    else:
        show_list([word.lower() for word in others])
    return 0


def show_timm(pattern: str) -> None:
    """Print the names of timm's networks that match a pattern.

    Args:
        pattern: Wildcard pattern, like `*repvit*`.

    Raises:
        ConfigError: No network matches.
    """
    import timm

    names = timm.list_models(pattern)
    if not names:
        hint = "" if "*" in pattern else f"; for all whose names contain it, timm='*{pattern}*'"
        raise ConfigError(f"timm {timm.__version__} has no network {pattern!r}{hint}")
    print(*names, sep="\n")


def show_list(words: Sequence[str]) -> None:
    """Print a table of backbones.

    Args:
        words: Lower-case words, each of which has to occur in a backbone's name or family.

    Raises:
        ConfigError: No backbone matches.
    """
    chosen = {n: s for n, s in sorted(families().items()) if all(w in n or w in _family(s).lower() for w in words)}
    if not chosen:
        raise ConfigError(f"no backbone has {' and '.join(words)} in its name{suggest(words[0], families())}")
    print_table([HEADER, *(_row(name, stage) for name, stage in chosen.items())])
    print(f"\n{len(chosen)} backbones; for timm's networks, used with TimmBackbone: yolo-lite list timm='*repvit*'")


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print rows of texts in aligned columns."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def published_at(name: str) -> dict[float, Source]:
    """Return the published weights of a backbone by width multiplier."""
    return {width: source for width in WIDTHS if (source := published(name, width)) is not None}


def _row(name: str, stage: type[Stage]) -> tuple[str, ...]:
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


def _family(stage: type[Stage]) -> str:
    return stage.__name__.removesuffix("Stage")
