"""How large a model may be: far beyond any use, so that a slip of the keyboard neither hangs nor fills the memory."""

from collections.abc import Callable, Iterable
from typing import Any

from yolo_lite.errors import ConfigError

# Of a model YAML
BYTES = 100_000  # of its file
VALUES = 20_000  # all values in it, aliases written out
NESTING = 32  # how deep they may lie in each other
TEXT = 4096  # characters of a text, as long as a path may be
DIGITS = 20  # of a whole number
ROWS = 500  # of backbone and head

# Of its numbers
CLASSES = 2**15
IMAGE_CHANNELS = 256  # of hyperspectral cameras; with more, an image alone fills the memory
DEPTH = WIDTH = 100  # of `scales`
REPEATS = 200  # of one row, times depth
BACKBONE_WIDTH = 10  # alpha
CHANNELS = 2**16
ARGUMENT = 2**16  # every number among the arguments of Ultralytics' own modules
REG_MAX = 256  # bins of a box's side; stock models have 16 or 1
KEYPOINTS = 1024

# Of the model that it makes, for one image of 256 px
PARAMETERS = 100_000_000  # 0.4 GB in float32; YOLOv8x has 68 million
WEIGHT = 2**24  # values of one; the largest of YOLOv8x has 3.7 million, and a convolution copies its weight to compute
GFLOPS = 100  # YOLOv8x has 35
ELEMENTS = 2**26  # of one tensor, for two images; YOLOv8x has 3.7 million
KEPT = 2**26  # of the outputs of all rows together, for two images
OPERATIONS = 10_000  # of torch, to build it and to run it; YOLOv8x takes 1,700
ACTIVATION = 200  # characters of the key `activation`

TOO_DEEP = f"values are nested more than {NESTING} deep"


def check_tree(root: Any, parts: Callable[[Any], Iterable[Any]]) -> None:
    """Refuse data of too many values, with aliases expanded, or too deep, or that holds itself, or a too long text.

    Args:
        root: The data.
        parts: Returns what a value holds, nothing for a plain one.

    Raises:
        ConfigError: It is such.
    """
    sizes: dict[int, int] = {}  # of what was seen, so that an alias is not walked again

    def size(value: Any, depth: int) -> int:
        if depth > NESTING:
            raise ConfigError(TOO_DEEP)
        if id(value) not in sizes:
            sizes[id(value)] = 1 + sum(size(each, depth + 1) for each in parts(value))
        if sizes[id(value)] > VALUES:
            raise ConfigError(f"there are more than {VALUES} values, with aliases expanded")
        return sizes[id(value)]

    size(root, 0)


def check_data(root: Any) -> None:
    """Refuse a model dictionary that is too large: what `check_tree` refuses, and texts and numbers that are too long.

    Raises:
        ConfigError: It is such.
    """
    check_tree(root, _parts)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, str | bytes) and len(value) > TEXT:
        raise ConfigError(f"found a text of {len(value)} characters, {value[:40]!r}...; needed at most {TEXT}")
    if isinstance(value, int) and abs(value) >= 10**DIGITS:
        raise ConfigError(f"found a number of more than {DIGITS} digits")
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list | tuple | set) else ()
