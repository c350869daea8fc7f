"""Reads model YAMLs, strictly, and tells ours from Ultralytics' own."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError, nearest, one_line
from yolo_lite.registry import LOSSES

OUR_KEYS = {"backbone_width", "backbone_weights", "backbone_edge", *LOSSES}


def load(file: str | Path, namespace: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a model YAML, strictly.

    Args:
        file: Its path.
        namespace: The names that Ultralytics has for modules.

    Returns:
        (dict | None): Its contents, or None if it names none of our modules and is Ultralytics' business.

    Raises:
        ConfigError: It cannot be read, is empty, or is no mapping; or it is ours and no UTF-8 or has a key twice.
    """
    data = _read(Path(file))
    try:
        content = yaml.load(data.decode("utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes, ours, numbers and dates
        if not _is_probably_ours(data, namespace):
            return None
        if isinstance(error, UnicodeDecodeError):
            line = data[: error.start].count(b"\n") + 1
            raise ConfigError(
                f"{file}, line {line}: byte 0x{data[error.start]:02x} is no UTF-8; save the file as UTF-8"
            ) from None
        raise ConfigError(f"{file}: {one_line(error)}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{file}: needs a mapping with the keys nc, scales, backbone and head, found {found}")
    return content if is_ours(content, namespace) else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None


def _is_probably_ours(data: bytes, namespace: Mapping[str, Any]) -> bool:
    """Tell whether a YAML that cannot be read strictly is ours: as Ultralytics would read it, or else by its words."""
    try:
        return is_ours(yaml.safe_load(data.decode("utf-8", "ignore")), namespace)
    except Exception:
        return any(re.search(rb"\b%s\b" % re.escape(name.encode()), data) for name in {*specs(), *OUR_KEYS})


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that stands twice instead of taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep)  # which refuses it
        seen: dict[str | int, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, str | int) and key in seen:
                raise ConfigError(f"line {line}: the key {key!r} stands twice, first in line {seen[key]}")
            if isinstance(key, str | int):
                seen[key] = line
        return super().construct_mapping(node, deep)


def is_ours(d: Mapping[str, Any], namespace: Mapping[str, Any]) -> bool:
    """Tell whether a model dictionary needs us: it has a key of ours, or names (or misspells) a module of ours.

    For a stock model this reads the rows and imports nothing.

    Args:
        d: The dictionary.
        namespace: The names that Ultralytics has for modules.
    """
    if OUR_KEYS & d.keys():
        return True
    unknown = {name for name in _module_names(d) if not is_known(name, namespace)}
    if not unknown:
        return False
    ours = specs()
    return any(name in ours or nearest(name, ours) is not None for name in unknown)


def is_known(name: str, namespace: Mapping[str, Any]) -> bool:
    """Tell whether Ultralytics finds a module by this name."""
    prefix, _, rest = name.rpartition(".")
    if prefix == "nn":
        import torch.nn

        return hasattr(torch.nn, rest)
    return name in namespace or prefix == "torchvision.ops"


def _module_names(d: Mapping[str, Any]) -> Iterator[str]:
    for section in ("backbone", "head"):
        for row in d.get(section) or () if isinstance(d.get(section), list) else ():
            if isinstance(row, list) and len(row) > 2 and isinstance(row[2], str):
                yield row[2]
