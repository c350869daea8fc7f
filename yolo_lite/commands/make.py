"""`yolo-lite make`: write a model YAML, or print it."""

import sys

from yolo_lite.compose import make as composing
from yolo_lite.options import checked, settings


def main(words: list[str]) -> int:
    """Do what the words of the command line, or the recipe's file among them, say."""
    values = checked("make", settings("make", words))
    if values["count"]:
        print("counting what it costs, some seconds for each scale; count=False leaves that out", file=sys.stderr)
    text = composing.make(**values)
    print(values["out"] or text.rstrip())
    return 0
