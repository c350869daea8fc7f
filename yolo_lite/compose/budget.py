"""What a model YAML costs at each scale beside its base, and the width that makes it fit a budget."""

import functools
from typing import NamedTuple

import yaml

from yolo_lite.cost import cost
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError
from yolo_lite.registry import MAX_BACKBONE_WIDTH
from yolo_lite.ultralytics_hooks import checks, configs, internals
from yolo_lite.weights.published import WIDTHS, published

USUAL_WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25)


class Figures(NamedTuple):
    """What a model costs at one scale, and its base."""

    parameters: int
    gflops: float
    base_parameters: int
    base_gflops: float
    alpha: float | None  # None: the backbone has no width multiplier
    published: bool  # whether there are ImageNet weights at this alpha


def figure_lines(body, base, task, letters, backbone, widths, imgsz):
    """Return the header's table: what the model costs at each scale, beside the base."""
    classes = yaml.safe_load(body)["nc"]
    return [
        f"# Fused, {imgsz} px, {classes} classes, beside its base:",
        "#   scale   parameters         GFLOPs             alpha   ImageNet weights",
        *(figure_line(letter, figures(body, base, task, letter, backbone, widths, imgsz)) for letter in letters),
    ]


def figure_line(letter, row):
    """Write one line of the header's table."""
    return (
        f"#   {letter}     {row.parameters / 1e6:7.2f} M ({row.base_parameters / 1e6:.2f})".ljust(31)
        + f"{row.gflops:7.2f} ({row.base_gflops:.2f})".ljust(20)
        + ("-" if row.alpha is None else f"{row.alpha:4.2f}").ljust(8)
        + ("yes" if row.published else "no")
    )


def figures(body, base, task, letter, backbone, widths, imgsz):
    """Count what a YAML costs at one scale, and the stock model `base` of the same task."""
    alpha = None if widths is None else widths[letter]
    known = bool(published(backbone.removeprefix("timm/")) if alpha is None else published(backbone, alpha))
    return Figures(*_cost(body, letter, task, imgsz), *_base_cost(base, letter, task, imgsz), alpha, known)


def load(body, letter, name="model.yaml"):
    """Return a YAML's text as the model dictionary that Ultralytics makes of it."""
    return {**yaml.safe_load(body), "scale": letter, "yaml_file": str(name)}


@functools.lru_cache(maxsize=256)
def _cost(body, letter, task, imgsz):
    d = load(body, letter)
    d["backbone_weights"] = None  # they cost nothing
    return cost(internals.build_model(d, task), imgsz)


@functools.lru_cache(maxsize=64)
def _base_cost(stem, letter, task, imgsz):
    d = load(configs.stock_configs()[stem].read_text("utf-8"), letter)
    return cost(internals.build_model(d, task), imgsz)


def choose_widths(text, backbone, letters, task, imgsz, base, width):
    """Return alpha for each letter, as given or chosen."""
    if width is not None:
        given = width if isinstance(width, dict) else dict.fromkeys(letters, width)
        for letter in letters:
            if letter not in given:
                raise ConfigError(f"width lacks the scale {letter}, it has {', '.join(map(str, given))}")
        for value in given.values():
            checks.check_number("width", value)
            if value > MAX_BACKBONE_WIDTH:
                raise ConfigError(f"width has to be at most {MAX_BACKBONE_WIDTH}, found {value}")
        return {letter: given[letter] for letter in letters}
    usual = [each for each in sorted(WIDTHS, reverse=True) if published(backbone, each)]
    usual += [each for each in USUAL_WIDTHS if each not in usual]
    chosen = {}
    for letter in letters:
        limit = _base_cost(base, letter, task, imgsz)
        for alpha in usual:
            found = _cost(text(dict.fromkeys(letters, alpha)), letter, task, imgsz)
            if all(ours < theirs for ours, theirs in zip(found, limit, strict=True)):
                break
        chosen[letter] = alpha  # the smallest, where none is light enough: the header's figures say so
    return chosen


def fit_width(text, backbone, letter, task, imgsz, budget):
    """Return the largest alpha within a budget, and a sentence about it.

    Alphas are those at which the channels of P3 to P5 are multiples of 8 (of 16 where that costs little, since runtimes
    like those better); where a family's own rounding leaves none that fits, any step of 1/32.
    """
    for name, value in budget.items():
        if value is not None:
            checks.check_number(f"the budget of {name}", value)
    limits = [budget["M parameters"] and budget["M parameters"] * 1e6, budget["GFLOPs"]]
    said = " and ".join(f"{value:g} {name}" for name, value in budget.items() if value is not None)

    def spent(alpha):
        return _cost(text({letter: alpha}), letter, task, imgsz)

    def fits(alpha):
        return all(limit is None or found <= limit for found, limit in zip(spent(alpha), limits, strict=True))

    best = {}
    for divisor in (16, 8, 1):
        steps = alphas(backbone, divisor)
        if divisor == 1 and best:
            break
        low, high = -1, len(steps) - 1  # steps[low] fits, everything above high does not
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(steps[middle]) else (low, middle - 1)
        if low >= 0:
            best[divisor] = steps[low]
    if not best:
        smallest = alphas(backbone, 1)[0]
        parameters, gflops = spent(smallest)
        raise ConfigError(
            f"no width of {backbone} fits {said}: at the smallest, {smallest:g}, the model has {gflops:.2f} GFLOPs and "
            f"{parameters / 1e6:.2f} M parameters; neck=light head=light, or a smaller scale, costs less"
        )
    divisor = min(best, key=lambda each: (best[each] < 0.9 * max(best.values()), -each))
    parameters, gflops = spent(best[divisor])
    found = f"{gflops:.2f} GFLOPs, {parameters / 1e6:.2f} M parameters"
    which = f" with channels in multiples of {divisor}" if divisor > 1 else ""
    return best[divisor], f"Alpha {best[divisor]:g} is the largest{which} within {said} at {imgsz} px: {found}."


@functools.lru_cache(maxsize=64)
def alphas(backbone, divisor):
    """Return the width multipliers from 1/16 to 2, in steps of 1/32, at which P3 to P5 have multiples of `divisor`."""
    stage, found = families()[backbone], {}
    for step in range(2, 65):
        channels = tuple(layers[-1].channels for layers in stage.plan(backbone, width=step / 32))
        if all(c % divisor == 0 for c in channels[2:]):
            found.setdefault(channels, step / 32)
    return sorted(found.values())
