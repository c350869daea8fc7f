"""`yolo-lite make`: write a model YAML, or print it."""

import sys

from yolo_lite.arguments import settings
from yolo_lite.compose.make import compose
from yolo_lite.compose.recipe import Recipe


def main(words: list[str]) -> int:
    """Do what the words of the command line, or the recipe's file among them, say."""
    recipe = Recipe.of(settings("make", words))
    if recipe.count:
        print("counting parameters and GFLOPs, some seconds for each scale; count=False skips this", file=sys.stderr)
    text = compose(recipe)
    print(recipe.out or text.rstrip())
    return 0
