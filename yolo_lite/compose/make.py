"""`yolo-lite make`: put a backbone, a neck and a head into a base, and write the result as a model YAML."""

from pathlib import Path
from typing import Any

from yolo_lite.compose.budget import figure_lines, load, widths_of
from yolo_lite.compose.draft import Draft, Widths
from yolo_lite.compose.recipe import DEFAULTS, Recipe
from yolo_lite.files import write
from yolo_lite.ultralytics_hooks import checks, internals
from yolo_lite.weights.published import find, find_timm


def make(
    base: str = DEFAULTS["base"],
    backbone: str = DEFAULTS["backbone"],
    neck: str = DEFAULTS["neck"],
    head: str = DEFAULTS["head"],
    task: str = DEFAULTS["task"],
    **more: Any,
) -> str:
    """Write a model YAML: a base of Ultralytics with another backbone, and optionally another neck and head.

    Args:
        base: Name of one of Ultralytics' model YAMLs, without a scale letter.
        backbone: Name from `list_backbones()` or from timm; the prefix `timm/` selects timm's network if both have it.
        neck: "base" for the base's own neck, "aspp", "lraspp", "extradw", "slim" or "light".
        head: "base" for the base's own head, "light" or "slim".
        task: "detect", "segment", "pose", "obb" or "classify".
        **more: Other options of `yolo-lite make`, described by `yolo-lite make --help`: width, scale, max_gflops,
            max_params, imgsz (pixels), weights, edge, out, exist_ok, note, count and keys.

    Returns:
        (str): Text of the YAML.

    Raises:
        ConfigError: A name does not exist, a combination is not possible, or no alpha fits the budget.
    """
    return compose(Recipe.of({"base": base, "backbone": backbone, "neck": neck, "head": head, "task": task, **more}))


def compose(recipe: Recipe) -> str:
    """Compose the model YAML of a recipe; return value and errors are those of `make`."""
    recipe.check()
    draft = Draft.of(recipe)
    widths, said = widths_of(draft)
    path = None if recipe.out is None else Path(recipe.out)
    _check(draft, widths, path)
    header = draft.header([recipe.note, said], f"{recipe.base}-my.yaml" if path is None else path.name)
    figures = figure_lines(draft, widths) if recipe.count else []
    text = "\n".join([*header, *figures]) + "\n\n" + draft.body(widths)
    if path is not None:
        write(path, text)
    return text


def _check(draft: Draft, widths: Widths, path: Path | None) -> None:
    """Refuse weights that do not exist, and a model that cannot be built at one of its scales."""
    recipe = draft.recipe
    if recipe.weights is not None:
        if widths is None:
            find_timm(recipe.timm_name, recipe.weights)
        for alpha in {*(widths or {}).values()}:
            find(recipe.backbone, alpha, recipe.weights)
    for letter in draft.letters:
        checks.check(load(draft.body(widths), letter, path or "the new YAML"), internals.namespace())
