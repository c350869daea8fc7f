"""Checks a model YAML that names one of our modules, before anything is built from it.

What can be read off the file is checked here; what needs the channels and strides of the rows is found by
`_dry_run`, which builds the model without memory. Both raise `ConfigError` only.
"""

import ast
import math
import re
from pathlib import Path

import yaml

from yolo_lite.discovery import specs
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.registry import MAX_BACKBONE_WIDTH, Scale, check_arguments

HEADS = ("detect", "segment", "pose", "obb", "classify", "depth", "decoder")  # what the names of the host's have
MAX_REG_MAX = 256  # bins of a box's side; stock models have 16 or 1
OUR_KEYS = {"backbone_width", "backbone_weights", "backbone_edge"}


def load(file, host):
    """Read a model YAML, strictly.

    Args:
        file: Its path.
        host: The namespace in which Ultralytics looks up module names.

    Returns:
        (dict | None): Its contents, or None if it names none of our modules and is Ultralytics' business.

    Raises:
        ConfigError: It cannot be read, is empty, or is no mapping; or it is ours and no UTF-8 or has a key twice.
    """
    data = _read(file)
    try:
        content = yaml.load(data.decode("utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes, ours, numbers and dates
        if not _is_probably_ours(data, host):
            return None
        if isinstance(error, UnicodeDecodeError):
            line = data[: error.start].count(b"\n") + 1
            raise ConfigError(
                f"{file}, line {line}: byte 0x{data[error.start]:02x} is no UTF-8; save the file as UTF-8"
            ) from None
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{file}: needs a mapping with the keys nc, scales, backbone and head, found {found}")
    return content if is_ours(content, host) else None


def _is_probably_ours(data, host):
    """Tell whether a YAML that cannot be read strictly is ours: as the host would read it, or else by its words."""
    try:
        return is_ours(yaml.safe_load(data.decode("utf-8", "ignore")), host)
    except Exception:
        return any(re.search(rb"\b%s\b" % re.escape(name.encode()), data) for name in {*specs(), *OUR_KEYS})


def _read(file):
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses a key that stands twice instead of taking the last."""

    def construct_mapping(self, node, deep=False):
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep)  # which refuses it
        seen = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, str | int) and key in seen:
                raise ConfigError(f"line {line}: the key {key!r} stands twice, first in line {seen[key]}")
            if isinstance(key, str | int):
                seen[key] = line
        return super().construct_mapping(node, deep)


def is_ours(d, host):
    """Tell whether a model dictionary needs us: it has a key of ours, or names (or misspells) a module of ours.

    For a stock model this reads the rows and imports nothing.
    """
    if OUR_KEYS & d.keys():
        return True
    unknown = {name for name in _module_names(d) if not _known_to_host(name, host)}
    if not unknown:
        return False
    ours = specs()
    return any(name in ours or suggest(name, ours).startswith("; did you mean") for name in unknown)


def _module_names(d):
    for section in ("backbone", "head"):
        for row in d.get(section) or () if isinstance(d.get(section), list) else ():
            if isinstance(row, list) and len(row) > 2 and isinstance(row[2], str):
                yield row[2]


def _known_to_host(name, host):
    prefix, _, rest = name.rpartition(".")
    if prefix == "nn":
        import torch.nn

        return hasattr(torch.nn, rest)
    return name in host or prefix == "torchvision.ops"


def check(d, host, file=False):
    """Check a model dictionary of ours.

    Args:
        d: The dictionary.
        host: The namespace in which Ultralytics looks up module names.
        file: Whether it was just read from a file, which cannot have what only checkpoints record.

    Raises:
        ConfigError: Anything in it that can be known to fail without building it.
    """
    where = source(d)
    try:
        for key in ("nc", "backbone", "head"):
            if key not in d:
                raise ConfigError(f"the key {key!r} is missing; found {', '.join(map(str, d))}")
        check_number("nc", d["nc"], whole=True)
        for section in ("backbone", "head"):
            if not isinstance(d[section], list) or not d[section]:
                raise ConfigError(f"{section} has to be a list of rows, found {d[section]!r}")
        if "reg_max" in d:
            check_number("reg_max", d["reg_max"], whole=True)
            if d["reg_max"] > MAX_REG_MAX:
                raise ConfigError(f"reg_max has to be at most {MAX_REG_MAX}, found {d['reg_max']}")
        if not isinstance(d.get("end2end"), bool | None):
            raise ConfigError(f"end2end has to be true or false, found {d['end2end']!r}")
        if scaling(d).backbone_edge and not _has_native_backbone(d):
            raise ConfigError("backbone_edge: true changes our native backbones, and there is none in this model")
        _check_activation(d.get("activation"))
        if d.get("backbone_weights") is not None:
            from yolo_lite.ultralytics_hooks.weights_key import check_setting

            check_setting(d["backbone_weights"], record=not file)
    except ConfigError as error:
        raise error.at(where) from None
    last = len(d["backbone"]) + len(d["head"]) - 1
    for index in range(last + 1):
        try:
            _check_row(index, row(d, index), d, host)
            if index == last and not any(word in row(d, index)[2].lower() for word in HEADS):
                raise ConfigError("the last row has to be the model's head, like Detect")
            if index == last and row(d, index)[1] != 1:
                raise ConfigError(f"a head cannot be repeated, found repeats {row(d, index)[1]}")
            if "Pose" in row(d, index)[2]:
                _check_keypoints(d.get("kpt_shape"), named_values(d, row(d, index)[3]))
        except ConfigError as error:
            raise error.at(row_name(d, index)) from None


def _has_native_backbone(d):
    from yolo_lite.backbones._stage import Stage

    known = specs()
    return any(name in known and issubclass(known[name].cls, Stage) for name in _module_names(d))


def source(d):
    """Name the file a model dictionary comes from."""
    return d.get("yaml_file") or "model dictionary"


def row(d, index):
    """Return a row by its number, which counts through backbone and head as `from` does."""
    return (d["backbone"] + d["head"])[index]


def row_name(d, index):
    """Say where a row stands."""
    section = "backbone" if index < len(d["backbone"]) else "head"
    return f"{source(d)}, {section} row {index} {_flow(row(d, index))}"


def _flow(value):
    """Write a row as it stands in a YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).strip().removesuffix("\n...")


def scaling(d):
    """Return the `Scale` of a model dictionary.

    Raises:
        ConfigError: Its letter is not in the table, or a number in it is none, not finite or not above 0.
    """
    scales, letter = d.get("scales"), d.get("scale") or ""
    depth, width, max_channels = d.get("depth_multiple", 1.0), d.get("width_multiple", 1.0), math.inf
    if scales is not None:
        if not isinstance(scales, dict) or not scales:
            raise ConfigError(f"scales has to map letters to [depth, width, max_channels], found {scales!r}")
        letter = letter or next(iter(scales))
        if letter not in scales:
            raise ConfigError(f"the name asks for scale {letter!r}, scales has {', '.join(map(str, scales))}")
        if not isinstance(scales[letter], list) or len(scales[letter]) != 3:
            raise ConfigError(f"scales, {letter}: needs [depth, width, max_channels], found {scales[letter]!r}")
        depth, width, max_channels = scales[letter]
        check_number(f"scales, {letter}: max_channels", max_channels)
    check_number("depth", depth)
    check_number("width", width)
    alpha = d.get("backbone_width", 1.0)
    if isinstance(alpha, dict):
        if letter not in alpha:
            raise ConfigError(f"backbone_width lacks the scale {letter!r}, it has {', '.join(map(str, alpha))}")
        alpha = alpha[letter]
    check_number("backbone_width", alpha)
    if alpha > MAX_BACKBONE_WIDTH:
        raise ConfigError(f"backbone_width has to be at most {MAX_BACKBONE_WIDTH}, found {alpha}")
    edge = d.get("backbone_edge", False)
    if not isinstance(edge, bool):
        raise ConfigError(f"backbone_edge has to be true or false, found {edge!r}")
    return Scale(letter, depth, width, max_channels, alpha, edge, d.get("reg_max", 16), d.get("end2end"))


def named_values(d, args):
    """Put in the values of the keys that a row may name, as Ultralytics does in the rows of its heads."""
    return [d[each] if each in ("nc", "kpt_shape") and each in d else each for each in args]


def _check_keypoints(shape, args):
    right = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not right or shape[0] < 1 or shape[1] not in (2, 3):
        raise ConfigError(f"needs the key kpt_shape, [number of keypoints, 2 or 3], found {shape!r}")
    if len(args) > 1 and args[1] != shape:
        raise ConfigError(f"takes the key kpt_shape, {shape}, as [nc, kpt_shape]; found {args[1]!r}")


def check_number(name, value, whole=False):
    """Raise ConfigError for what is no finite number above 0."""
    wanted = "a whole number above 0" if whole else "a finite number above 0"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(f"{name} has to be {wanted}, found {value!r}")
    if not (0 < value < math.inf):
        raise ConfigError(f"{name} has to be {wanted}, found {value}")


def _check_activation(text):
    """Ultralytics evaluates this text; we let through what it documents: a torch.nn class with literal arguments."""
    if text is None:
        return
    try:
        call = ast.parse(text.strip(), mode="eval").body
        path = ast.unparse(call.func).split(".")
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(argument)
        if path[:-1] not in (["nn"], ["torch", "nn"]):
            raise ValueError
    except (AttributeError, SyntaxError, ValueError):
        raise ConfigError(f"activation has to be like nn.ReLU(), found {text!r}") from None
    import torch

    cls = getattr(torch.nn, path[-1], None)
    if not isinstance(cls, type) or not issubclass(cls, torch.nn.Module):
        raise ConfigError(f"activation: torch.nn has no {path[-1]!r}{suggest(path[-1], dir(torch.nn))}")
    values = [ast.literal_eval(each) for each in call.args]
    named = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
    shape = (2, 16, 8, 8)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            result = cls(*values, **named)(torch.zeros(shape))
    except Exception as error:
        raise ConfigError(f"activation {text!r} cannot be used: {' '.join(str(error).split())}") from None
    if getattr(result, "shape", None) != shape:
        raise ConfigError(f"activation has to keep a map's shape, {text!r} does not")


def _check_row(index, row, d, host):
    if not isinstance(row, list) or len(row) != 4:
        raise ConfigError("a row has to be [from, repeats, module, args]")
    inputs, repeats, name, args = row
    several = isinstance(inputs, list)
    for each in inputs if several else [inputs]:
        if isinstance(each, bool) or not isinstance(each, int):
            raise ConfigError(f"from has to be a row's number or a list of them, found {inputs!r}")
        earliest = -max(index, 1)
        if not earliest <= each < max(index, 0) or (index == 0 and each != -1):
            allowed = "-1, the image" if index == 0 else f"{earliest} to {index - 1}"
            raise ConfigError(f"from has to name an earlier row ({allowed}), found {each}")
    if several and not inputs:
        raise ConfigError("from is an empty list")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise ConfigError(f"repeats has to be a whole number from 1, found {repeats!r}")
    if not isinstance(name, str):
        raise ConfigError(f"module has to be a name, found {name!r}")
    if not isinstance(args, list):
        raise ConfigError(f"args has to be a list, found {args!r}")
    spec = specs().get(name)
    if spec is None:
        if not _known_to_host(name, host):
            choices = {*specs(), *(each for each, value in host.items() if isinstance(value, type))}
            raise ConfigError(f"unknown module {name!r}{suggest(name, sorted(choices))}")
        return
    if spec.inputs == 1 and several:
        raise ConfigError(f"{name} takes one input, its row's number without brackets, found {inputs}")
    if spec.inputs != 1 and (not several or len(inputs) != (spec.inputs or len(inputs))):
        wanted = spec.inputs or "a list of"
        raise ConfigError(f"{name} takes {wanted} inputs, found {len(inputs) if several else 1}")
    if repeats != 1 and (spec.repeats == "once" or (spec.repeats == "stack" and several)):
        raise ConfigError(f"{name} cannot be repeated, found repeats {repeats}")
    check_arguments(name, spec, named_values(d, args))
