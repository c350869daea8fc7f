"""Limits on the size of a model, far beyond any practical use, so that a typo neither hangs nor exhausts memory."""

from collections.abc import Callable, Iterable
from typing import Any

from yolo_lite.errors import ConfigError

# limits of a model YAML
BYTES = 100_000  # file size
VALUES = 20_000  # number of values, with aliases expanded
NESTING = 32  # nesting depth of values
TEXT = 4096  # characters of a text, the maximum length of a path
DIGITS = 20  # digits of a whole number
ROWS = 500  # rows of backbone and head together

# limits of the numbers in a model YAML
CLASSES = 2**15
IMAGE_CHANNELS = 256  # as in hyperspectral cameras; with more, a single image exhausts memory
DEPTH = WIDTH = 100  # multipliers in `scales`
REPEATS = 200  # repeats of one row, multiplied by depth
BACKBONE_WIDTH = 10  # alpha
CHANNELS = 2**16
ARGUMENT = 2**16  # every number among the arguments of Ultralytics' own modules
REG_MAX = 256  # bins per side of a box; stock models have 16 or 1
KEYPOINTS = 1024

# limits of the resulting model, for one image of 256 px unless stated otherwise
PARAMETERS = 100_000_000  # 0.4 GB in float32; YOLOv8x has 68 million
WEIGHT = 2**24  # values of one weight tensor (3.7 million in YOLOv8x); convolutions copy their weights to compute
GFLOPS = 100  # YOLOv8x has 35
ELEMENTS = 2**26  # values of one tensor, for two images; YOLOv8x has 3.7 million
KEPT = 2**26  # values of the outputs of all rows together, for two images
OPERATIONS = 10_000  # torch operations to build and run the model; YOLOv8x takes 1,700
ACTIVATION = 200  # characters of the YAML key `activation`

TOO_DEEP = f"values are nested more than {NESTING} deep"


def check_tree(root: Any, parts: Callable[[Any], Iterable[Any]]) -> None:
    """Refuse data with too many values (aliases expanded), data nested too deeply and data that contains itself.

    Args:
        root: Data to check.
        parts: Function that returns the children of a value, nothing for a scalar.

    Raises:
        ConfigError: The data exceeds `VALUES` or `NESTING`.
    """
    sizes: dict[int, int] = {}  # sizes of visited values by id, so that an alias is not traversed again

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
    """Refuse a model dictionary that `check_tree` refuses, or that contains texts or numbers that are too long.

    Raises:
        ConfigError: The dictionary exceeds a limit.
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
