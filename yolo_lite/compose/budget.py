"""Cost of a model YAML at each scale compared with its base, and widths that make it lighter or fit a budget."""

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
ROUND = (16, 8)  # channel multiples that are efficient in runtimes, the best first
ENOUGH = 0.9  # minimum ratio to the largest alpha that is accepted for a better channel multiple

Cost = tuple[int, float]  # parameters, GFLOPs


@dataclass(frozen=True)
class Figures:
    """Cost of a model and of its base at one scale.

    Attributes:
        parameters: Number of parameters of the model.
        gflops: GFLOPs of the model.
        base_parameters: Number of parameters of the base.
        base_gflops: GFLOPs of the base.
        alpha: Width multiplier; None for a backbone without one.
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
    """Maximum cost of a model in GFLOPs and millions of parameters; None for no limit."""

    gflops: float | None
    parameters: float | None

    def __str__(self) -> str:
        said = ((self.gflops, "GFLOPs"), (self.parameters, "M parameters"))
        return " and ".join(f"{limit:g} {unit}" for limit, unit in said if limit is not None)

    def holds(self, found: Cost) -> bool:
        """Return whether a cost is within the budget."""
        parameters, gflops = found
        return (self.gflops is None or gflops <= self.gflops) and (
            self.parameters is None or parameters <= self.parameters * 1e6
        )


def load(body: str, letter: str, name: object = "model.yaml") -> dict[str, Any]:
    """Parse a YAML's text into the model dictionary that Ultralytics would create from it."""
    return {**yaml.safe_load(body), "scale": letter, "yaml_file": str(name)}


# Cost -----------------------------------------------------------------------------------------------------------------


def figures(body: str, recipe: Recipe, letter: str, alpha: float | None) -> Figures:
    """Return the cost of a YAML and of its base at one scale.

    Args:
        body: Text of the YAML.
        recipe: Recipe that the YAML was made from.
        letter: Scale letter.
        alpha: Width multiplier at this scale; None for a backbone without one.
    """
    known = published(recipe.timm_name) if alpha is None else published(recipe.backbone, alpha)
    ours, theirs = _cost(body, letter, recipe.task, recipe.pixels), _base_cost(recipe, letter)
    return Figures(*ours, *theirs, alpha, known is not None)


def figure_lines(draft: Draft, widths: Widths) -> list[str]:
    """Return the lines of the header's table: cost of the model at each scale, compared with its base."""
    body, recipe = draft.body(widths), draft.recipe
    alphas = dict.fromkeys(draft.letters, None) if widths is None else widths
    return [
        f"# Fused, {recipe.pixels} px, {yaml.safe_load(body)['nc']} classes, compared with its base:",
        "#   scale   parameters         GFLOPs             alpha   ImageNet weights",
        *(figure_line(letter, figures(body, recipe, letter, alphas[letter])) for letter in draft.letters),
    ]


def figure_line(letter: str, row: Figures) -> str:
    """Return one line of the header's table."""
    return (
        f"#   {letter}     {row.parameters / 1e6:7.2f} M ({row.base_parameters / 1e6:.2f})".ljust(31)
        + f"{row.gflops:7.2f} ({row.base_gflops:.2f})".ljust(20)
        + ("-" if row.alpha is None else f"{row.alpha:4.2f}").ljust(8)
        + ("yes" if row.published else "no")
    )


@functools.lru_cache(maxsize=256)
def _cost(body: str, letter: str, task: str, imgsz: int) -> Cost:
    d = load(body, letter)
    d["backbone_weights"] = None  # not needed for the cost
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
    """Return the given or chosen alpha of each scale, and a note for the header, "" for none.

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

    If no width is small enough, return the last one tried; the header's figures show it.
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
    """Return the largest alpha within a budget, and a note for the header.

    The channels of the head's input levels are multiples of 8, or of 16 if that reduces alpha by at most 10 %, since
    runtimes are more efficient with those. If no such alpha fits, because of a family's own rounding, any step of 1/32
    is allowed.

    Raises:
        ConfigError: No alpha fits.
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
    """Return the largest of ascending alphas that fits, by bisection; None if the smallest does not fit."""
    low, high = -1, len(steps) - 1  # steps[low] fits, everything above high does not
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(steps[middle]) else (low, middle - 1)
    return steps[low] if low >= 0 else None


def _roundest(best: dict[int, float]) -> tuple[int, float]:
    """Return the largest divisor with an alpha of at least `ENOUGH` times the largest one, and that alpha."""
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
    """Return the alphas from 1/16 to 2, in steps of 1/32, at which the given levels have multiples of `divisor`.

    Of alphas with the same channels, only the smallest is returned.
    """
    stage = families()[backbone]
    found: dict[tuple[int, ...], float] = {}
    for step in range(2, 65):
        plan = stage.plan(backbone, width=step / 32)
        channels = tuple(layers[-1].channels for layers in plan)
        if all(each % divisor == 0 for level, each in enumerate(channels, 1) if level in levels):
            found.setdefault(channels, step / 32)
    return sorted(found.values())
