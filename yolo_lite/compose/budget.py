"""What a model YAML costs at each scale beside its base, and the widths that make it lighter or fit a budget."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from yolo_lite.compose.draft import Draft, Widths
from yolo_lite.compose.recipe import Recipe
from yolo_lite.cost import cost
from yolo_lite.discovery import families
from yolo_lite.errors import ConfigError
from yolo_lite.ultralytics_hooks import configs, internals
from yolo_lite.weights.published import WIDTHS, published

USUAL_WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25)
ROUND = (16, 8)  # channels in multiples of these are what runtimes like, the first more than the second
ENOUGH = 0.9  # of the largest alpha: rounder channels may cost so much of it

Cost = tuple[int, float]  # parameters, GFLOPs


@dataclass(frozen=True)
class Figures:
    """What a model costs at one scale, and its base.

    Attributes:
        parameters: Of the model.
        gflops: Of the model.
        base_parameters: Of its base.
        base_gflops: Of its base.
        alpha: The width multiplier; None where the backbone has none.
        published: Whether there are ImageNet weights at this alpha.
    """

    parameters: int
    gflops: float
    base_parameters: int
    base_gflops: float
    alpha: float | None
    published: bool


@dataclass(frozen=True)
class Budget:
    """What a model may cost at most, None for any: GFLOPs, and millions of parameters."""

    gflops: float | None
    parameters: float | None

    def __str__(self) -> str:
        said = ((self.gflops, "GFLOPs"), (self.parameters, "M parameters"))
        return " and ".join(f"{limit:g} {unit}" for limit, unit in said if limit is not None)

    def holds(self, found: Cost) -> bool:
        """Tell whether a model that costs so much is within it."""
        parameters, gflops = found
        return (self.gflops is None or gflops <= self.gflops) and (
            self.parameters is None or parameters <= self.parameters * 1e6
        )


def load(body: str, letter: str, name: object = "model.yaml") -> dict[str, Any]:
    """Return a YAML's text as the model dictionary that Ultralytics makes of it."""
    return {**yaml.safe_load(body), "scale": letter, "yaml_file": str(name)}


# What is counted ------------------------------------------------------------------------------------------------------


def figures(body: str, recipe: Recipe, letter: str, alpha: float | None) -> Figures:
    """Count what a YAML costs at one scale, and its base.

    Args:
        body: The YAML's text.
        recipe: What it was made from.
        letter: The scale.
        alpha: Its width multiplier there; None where the backbone has none.
    """
    known = published(recipe.timm_name) if alpha is None else published(recipe.backbone, alpha)
    ours, theirs = _cost(body, letter, recipe.task, recipe.pixels), _base_cost(recipe, letter)
    return Figures(*ours, *theirs, alpha, known is not None)


def figure_lines(draft: Draft, widths: Widths) -> list[str]:
    """Return the header's table: what the model costs at each scale, beside its base."""
    body, recipe = draft.body(widths), draft.recipe
    alphas = dict.fromkeys(draft.letters, None) if widths is None else widths
    return [
        f"# Fused, {recipe.pixels} px, {yaml.safe_load(body)['nc']} classes, compared with its base:",
        "#   scale   parameters         GFLOPs             alpha   ImageNet weights",
        *(figure_line(letter, figures(body, recipe, letter, alphas[letter])) for letter in draft.letters),
    ]


def figure_line(letter: str, row: Figures) -> str:
    """Write one line of the header's table."""
    return (
        f"#   {letter}     {row.parameters / 1e6:7.2f} M ({row.base_parameters / 1e6:.2f})".ljust(31)
        + f"{row.gflops:7.2f} ({row.base_gflops:.2f})".ljust(20)
        + ("-" if row.alpha is None else f"{row.alpha:4.2f}").ljust(8)
        + ("yes" if row.published else "no")
    )


@functools.lru_cache(maxsize=256)
def _cost(body: str, letter: str, task: str, imgsz: int) -> Cost:
    d = load(body, letter)
    d["backbone_weights"] = None  # they cost nothing
    found: Cost = cost(internals.build_model(d, task), imgsz)
    return found


def _base_cost(recipe: Recipe, letter: str) -> Cost:
    return _stock_cost(recipe.stem, letter, recipe.task, recipe.pixels)


@functools.lru_cache(maxsize=64)
def _stock_cost(stem: str, letter: str, task: str, imgsz: int) -> Cost:
    d = load(configs.stock_configs()[stem].read_text("utf-8"), letter)
    found: Cost = cost(internals.build_model(d, task), imgsz)
    return found


def _draft_cost(draft: Draft, letter: str, alpha: float) -> Cost:
    body = draft.body(dict.fromkeys(draft.letters, alpha))
    return _cost(body, letter, draft.recipe.task, draft.recipe.pixels)


# Widths ---------------------------------------------------------------------------------------------------------------


def widths_of(draft: Draft) -> tuple[Widths, str]:
    """Return alpha for each scale, as given or chosen, and a sentence about it, "" where there is nothing to say.

    Raises:
        ConfigError: No alpha fits the budget.
    """
    recipe = draft.recipe
    if not recipe.native:
        return None, ""
    if recipe.has_budget:
        (letter,) = draft.letters
        alpha, said = fit_width(draft, letter, Budget(recipe.max_gflops, recipe.max_params))
        return {letter: alpha}, said
    if isinstance(recipe.width, dict):
        return {letter: recipe.width[letter] for letter in draft.letters}, ""
    if recipe.width is not None:
        return dict.fromkeys(draft.letters, recipe.width), ""
    return {letter: lighter_width(draft, letter) for letter in draft.letters}, ""


def lighter_width(draft: Draft, letter: str) -> float:
    """Return the largest published width, else the largest usual one, at which a model is lighter than its base.

    Where none is light enough it is the smallest; the header's figures say so.
    """
    backbone = draft.recipe.backbone
    usual = [each for each in sorted(WIDTHS, reverse=True) if published(backbone, each)]
    usual += [each for each in USUAL_WIDTHS if each not in usual]
    limit = _base_cost(draft.recipe, letter)
    for alpha in usual:
        found = _draft_cost(draft, letter, alpha)
        if all(ours < theirs for ours, theirs in zip(found, limit, strict=True)):
            break
    return alpha


def fit_width(draft: Draft, letter: str, budget: Budget) -> tuple[float, str]:
    """Return the largest alpha within a budget, and a sentence about it.

    Alphas are those at which the channels of the head's levels are multiples of 8 (of 16 where that costs little, since
    runtimes like those better); where a family's own rounding leaves none that fits, any step of 1/32.

    Raises:
        ConfigError: None fits.
    """
    steps = functools.partial(alphas, draft.recipe.backbone, levels=tuple(draft.base.joined))

    def fits(alpha: float) -> bool:
        return budget.holds(_draft_cost(draft, letter, alpha))

    found = {divisor: widest(steps(divisor), fits) for divisor in ROUND}
    best = {divisor: alpha for divisor, alpha in found.items() if alpha is not None}
    if not best:
        alpha = widest(steps(1), fits)
        if alpha is None:
            raise _too_small(draft, letter, budget)
        best = {1: alpha}
    divisor, alpha = _roundest(best)
    which = f" with channels in multiples of {divisor}" if divisor > 1 else ""
    spent = _in_words(_draft_cost(draft, letter, alpha))
    return alpha, f"Alpha {alpha:g} is the largest{which} within {budget} at {draft.recipe.pixels} px: {spent}."


def widest(steps: Sequence[float], fits: Callable[[float], bool]) -> float | None:
    """Return the largest of some ascending alphas that fits, None where the smallest does not."""
    low, high = -1, len(steps) - 1  # steps[low] fits, everything above high does not
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(steps[middle]) else (low, middle - 1)
    return steps[low] if low >= 0 else None


def _roundest(best: dict[int, float]) -> tuple[int, float]:
    """Return the largest divisor whose alpha is near the largest alpha, and that alpha."""
    near = [divisor for divisor, alpha in best.items() if alpha >= ENOUGH * max(best.values())]
    return max(near), best[max(near)]


def _too_small(draft: Draft, letter: str, budget: Budget) -> ConfigError:
    smallest = alphas(draft.recipe.backbone, 1, ())[0]
    return ConfigError(
        f"no width of {draft.recipe.backbone} fits {budget}: at the smallest, {smallest:g}, the model has "
        f"{_in_words(_draft_cost(draft, letter, smallest))}; neck=light head=light, or a smaller scale, costs less"
    )


def _in_words(found: Cost) -> str:
    parameters, gflops = found
    return f"{gflops:.2f} GFLOPs, {parameters / 1e6:.2f} M parameters"


@functools.lru_cache(maxsize=64)
def alphas(backbone: str, divisor: int, levels: tuple[int, ...]) -> list[float]:
    """Return the alphas from 1/16 to 2, in steps of 1/32, at which some levels have multiples of `divisor`."""
    stage = families()[backbone]
    found: dict[tuple[int, ...], float] = {}
    for step in range(2, 65):
        plan = stage.plan(backbone, width=step / 32)
        channels = tuple(layers[-1].channels for layers in plan)
        if all(each % divisor == 0 for level, each in enumerate(channels, 1) if level in levels):
            found.setdefault(channels, step / 32)
    return sorted(found.values())
