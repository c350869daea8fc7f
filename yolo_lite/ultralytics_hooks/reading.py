"""Strict reading of model YAMLs, and distinction of yolo_lite's from Ultralytics' own."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from yolo_lite import limits
from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError, nearest, one_line, typed_line
from yolo_lite.registry import LOSSES

OUR_KEYS = {"backbone_width", "backbone_weights", "backbone_edge", "transfer", *LOSSES}
THEIR_KEYS = {
    "nc", "scales", "backbone", "head", "activation", "reg_max", "end2end", "kpt_shape", "depth_multiple",
    "width_multiple", "ch", "channels", "inplace", "scale", "yaml_file", "text_model", "anchors", "names",
}  # fmt: skip
OTHER_WORDS = {  # common wrong name -> correct key
    "alpha": "backbone_width",
    "width": "backbone_width",
    "multiplier": "backbone_width",
    "weights": "backbone_weights",
    "pretrained": "backbone_weights",
    "edge": "backbone_edge",
}
SEARCHED = 2**24  # bytes of a file that are searched for names of yolo_lite
PREFIX = "backbone_"
WRITTEN_KEYS = {key for key in OUR_KEYS | THEIR_KEYS if len(key) > 3} - {
    "scale",
    "yaml_file",
}  # the others resemble too many words
UNPRINTABLE = re.compile(r"[^\x09\x0A\x0D\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010ffff]")  # in YAML
NEAR_KEY = 0.75  # stricter than elsewhere: a YAML may have keys that nobody reads


def load(file: str | Path, namespace: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read a model YAML strictly.

    Args:
        file: Path of the YAML file.
        namespace: Names that Ultralytics has for modules.

    Returns:
        (dict | None): Contents of the file, or None if it does not need yolo_lite and is left to Ultralytics.

    Raises:
        ConfigError: If the file cannot be read, is empty or is not a mapping; or if it needs yolo_lite and is too
            large, is not valid YAML in UTF-8, or has a duplicate key.
    """
    data = _read(Path(file))
    try:
        if len(data) > limits.BYTES:
            raise ConfigError(f"is larger than {limits.BYTES} bytes, too large for a model YAML")
        content = _content(_decoded(data), _StrictLoader)
    except Exception as error:  # PyYAML raises whatever a tag's constructor does
        if not _is_probably_ours(data, namespace):
            return None
        raise ConfigError(f"{file}{_said(error)}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{file}: needs a mapping with the keys nc, scales, backbone and head, found {found}")
    return content if is_ours(content, namespace) else None


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(SEARCHED)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None


def _decoded(data: bytes) -> str:
    """Decode a file strictly; Ultralytics drops what it cannot decode, and so reads a different model than written."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f", line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(f", line {line}: byte 0x00 is not text in UTF-8 (UTF-16?); save the file as UTF-8")
    return text


def _content(text: str, loader: "type[_BoundedLoader]") -> Any:
    """Return the contents of a YAML unless it is too large; aliases and merge keys are counted before expansion."""
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        limits.check_tree(node, _parts)
        return reader.construct_document(node)
    finally:
        reader.dispose()


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    for each in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from each if isinstance(each, tuple) else (each,)


def _said(error: Exception) -> str:
    """Return the description of an error, to be appended to the name of the file."""
    text = one_line(error) if isinstance(error, yaml.YAMLError | ValueError) else f"cannot be read: {typed_line(error)}"
    return text if text.startswith(",") else f": {text}"


def _is_probably_ours(data: bytes, namespace: Mapping[str, Any]) -> bool:
    """Return whether a YAML that fails strict reading needs yolo_lite: as Ultralytics reads it, else by its words."""
    text = UNPRINTABLE.sub("", data.decode("utf-8", "ignore"))
    try:
        if len(data) > limits.BYTES:
            raise ValueError
        return is_ours(_content(text, _BoundedLoader), namespace)
    except Exception:
        return any(re.search(rf"\b{re.escape(name)}\b", text) for name in {*specs(), *OUR_KEYS})


class _BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but rejecting values that are nested too deep before they take long."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > limits.NESTING + 1:
            raise ConfigError(limits.TOO_DEEP)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _StrictLoader(_BoundedLoader):
    """A `_BoundedLoader` that rejects duplicate keys instead of keeping the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep)  # which rejects it
        seen: dict[str | int, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, str | int) and key in seen:
                raise ConfigError(f"line {line}: the key {key!r} appears twice, first in line {seen[key]}")
            if isinstance(key, str | int):
                seen[key] = line
        return super().construct_mapping(node, deep)


def is_ours(d: Mapping[str, Any], namespace: Mapping[str, Any]) -> bool:
    """Return whether a model dictionary needs yolo_lite: it has a yolo_lite key, or names (or misspells) its modules.

    For a stock model this reads the rows and imports nothing.

    Args:
        d: Model dictionary.
        namespace: Names that Ultralytics has for modules.
    """
    near = OUR_KEYS.difference(LOSSES, ["transfer"])  # keys similar to the excluded ones may be unrelated to yolo_lite
    if any(key in OUR_KEYS or begins_like_ours(key) or meant(key) in near for key in d if key not in OTHER_WORDS):
        return True
    unknown = {name for name in _module_names(d) if not is_known(name, namespace)}
    if not unknown:
        return False
    ours = specs()
    return any(name in ours or nearest(name, ours) is not None for name in unknown)


def meant(key: object) -> str | None:
    """Return the key that a misspelt key stands for, None for a known key or one that resembles none.

    Args:
        key: A key of a model dictionary.
    """
    if not isinstance(key, str) or key in OUR_KEYS or key in THEIR_KEYS:
        return None
    word = key.lower().replace("-", "_")
    other = OTHER_WORDS.get(word.removeprefix(PREFIX))
    return other or nearest(word, sorted(OUR_KEYS if begins_like_ours(key) else WRITTEN_KEYS), NEAR_KEY)


def begins_like_ours(key: object) -> bool:
    """Return whether a key can only be meant for yolo_lite, spelt correctly or not."""
    return isinstance(key, str) and key.startswith(PREFIX)


def is_known(name: str, namespace: Mapping[str, Any]) -> bool:
    """Return whether Ultralytics finds a module by this name."""
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
