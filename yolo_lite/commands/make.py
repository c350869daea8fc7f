"""`yolo-lite make`: write a model YAML, or print it."""

import sys

from yolo_lite.arguments import settings
from yolo_lite.compose.make import compose
from yolo_lite.compose.recipe import Recipe


def main(words: list[str]) -> int:
    """Compose a model YAML with the settings from the command line and an optional recipe file."""
    recipe = Recipe.of(settings("make", words))
    if recipe.count:
        print("counting parameters and GFLOPs, some seconds for each scale; count=False skips this", file=sys.stderr)
    text = compose(recipe)
    print(recipe.out or text.rstrip())
    return 0
