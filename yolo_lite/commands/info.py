"""`yolo-lite info`: show cost and weights of a backbone or model, and operators that edge compilers handle badly."""

import inspect
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from yolo_lite import models
from yolo_lite.arguments import checked, parse
from yolo_lite.backbones import Backbone
from yolo_lite.bench.runtimes import is_exported
from yolo_lite.commands.list import print_table, published_at
from yolo_lite.compose.budget import USUAL_WIDTHS
from yolo_lite.cost import cost, costs
from yolo_lite.discovery import families
from yolo_lite.edge import NOTES, Finding, lint
from yolo_lite.errors import ConfigError, one_line, suggest
from yolo_lite.ultralytics_hooks import internals
from yolo_lite.ultralytics_hooks.configs import find_model
from yolo_lite.ultralytics_hooks.keys import scaling

IMGSZ = 640  # default image size for the cost, pixels
COLUMNS = 100  # line length of the lists
SIZES = (640, 512, 416, 320, 224)  # MobileNet's resolution multiplier rho: 1, 0.8, 0.65, 0.5, 0.35


def main(words: list[str]) -> int:
    """Print the information about a backbone or model, or a compiler's report if `device=` is given."""
    values, (name,) = parse("info", words)
    values = checked("info", values)
    if values["device"] is None:
        show_info(name)
    else:
        show_verdict(name, **values)
    return 0


def show_verdict(name: str, device: str, imgsz: int = IMGSZ, data: str = "shapes.yaml", out: str | None = None) -> None:
    """Print the report of a device's compiler about a model, by type of operator.

    Args:
        name: Name or path of a model YAML, path of a .pt, or a file in the format that the compiler reads.
        device: Name in `compilers.COMPILERS`, or one of the compiler's devices.
        imgsz: Height and width of the image, pixels.
        data: Dataset YAML for int8 calibration.
        out: Folder in which to keep the export; None to discard it.

    Raises:
        ConfigError: The name is not that of a model, or as in `compilers.verdict`.
    """
    from yolo_lite.bench.compilers import verdict

    if not _is_model(name):
        raise ConfigError(f"device={device} needs a model like yolov8n-mnv3.yaml or best.pt, found {name}")
    found = verdict(name, device, imgsz, data, out)
    how = "" if is_exported(name) else f" at {imgsz} px, int8"
    print(f"{name}{how}, by {found.compiler} for {found.target}\n")
    kinds = sorted({each.name for each in found.operators}, key=lambda kind: (-found.cycles(kind), kind))
    rows = [["operator", "on the NPU", "on the CPU", "cycles", "share"]]
    for kind in kinds:
        on_npu = [each.on_npu for each in found.operators if each.name == kind]
        numbers = (sum(on_npu), len(on_npu) - sum(on_npu), found.cycles(kind))
        rows.append(
            [kind, *(f"{number:,}" for number in numbers), f"{100 * found.cycles(kind) / found.cycles():.1f} %"]
        )
    print_table(rows)
    print()
    memory = ", ".join(f"{kind} {size:,.0f} KiB" for kind, size in found.memory.items() if size)
    if found.milliseconds is not None:
        print(f"estimate    {found.milliseconds:.1f} ms per image for what runs on the NPU, by the compiler")
    print(f"memory      {memory}")
    left = sorted({each.name for each in found.operators if not each.on_npu})
    print(f"on the CPU  {', '.join(left) or 'nothing'}")


def show_info(name: str) -> None:
    """Print the information about a native or timm backbone, or about a model (name or path of a YAML, or a .pt).

    Raises:
        ConfigError: The backbone or model does not exist, or cannot be read.
    """
    if _is_model(name):
        _show_model(name)
    elif name in families():
        _show_native(name)
    else:
        _show_timm(name)


def _is_model(name: str) -> bool:
    return name.startswith("yolo") or Path(name).suffix in (".yaml", ".yml", ".pt") or is_exported(name)


def _show_native(name: str) -> None:
    stage = families()[name]
    backbone = Backbone(stage, name)
    paper = inspect.getdoc(sys.modules[stage.__module__]) or ""
    row = f"[-1, 1, {stage.__name__}, [{name}, LEVEL]]"
    _show_backbone(name, paper, row, backbone, dict(enumerate(backbone.channels, 1)))


def _show_timm(name: str) -> None:
    from yolo_lite.backbones.timm_backbone import TimmBackbone, levels_of

    try:
        levels = levels_of(name).channels
    except ConfigError as error:
        near = suggest(name.lower(), families())
        if "did you mean" in near:
            raise ConfigError(f"there is no backbone {name!r}{near}") from None
        raise ConfigError(f"{error}; yolo_lite's own are listed by yolo-lite list") from None
    row = f"[-1, 1, TimmBackbone, [{name}]], and [0, 1, Level, [LEVEL]]"
    _show_backbone(name, "through timm", row, TimmBackbone(3, name), levels)


def _show_backbone(name: str, paper: str, row: str, backbone: nn.Module, levels: Mapping[int, int]) -> None:
    """Print the information about a backbone.

    Args:
        name: Name of the backbone.
        paper: Description and source of the backbone.
        row: Row that adds the backbone to a YAML.
        backbone: Backbone module.
        levels: Channels by level.
    """
    print(f"{name}: {paper}\n")
    print(f"row         {row}")
    try:
        parameters, gflops = cost(backbone)
        print(
            f"cost        {parameters / 1e6:.2f} M parameters, {gflops:.2f} GFLOPs at {IMGSZ} px, fused, without a head"
        )
    except (AssertionError, RuntimeError) as error:  # networks with a fixed input size
        print(f"cost        unknown: does not run at {IMGSZ} px ({one_line(error, 120)}); cannot be used in a YAML")
    for level, channels in sorted(levels.items()):
        if level:
            print(f"P{level}/{2**level:<9} {channels} channels")
    sources = published_at(name)
    for width, source in sources.items():
        print(f"weights     width {width:g}: {source.name} {source.tag}, licence: {source.licence}")
    if not sources:
        print("weights     none published")
    _show_findings(lint(backbone))


def _show_model(name: str) -> None:
    """Print the information about a model."""
    if is_exported(name):
        raise ConfigError(f"{name} is an exported file; info reads the .pt or .yaml that it was made from")
    model = models.load(name, IMGSZ)
    d = model.yolo.model.yaml
    print(f"{name}: {model.yolo.task}, {d.get('nc')} classes\n")
    if (file := find_model(model.source)) is not None:
        print(f"file        {file}")
    print(f"cost        {model.parameters / 1e6:.2f} M parameters, {model.gflops:.2f} GFLOPs at {IMGSZ} px, fused")
    if "backbone_width" in d:
        _show_multipliers(d, model.yolo.task, int(max(model.yolo.model.stride)))
    _show_findings(lint(model.yolo.model))


def _show_multipliers(d: dict[str, Any], task: str, stride: int) -> None:
    """Print the cost of a model YAML for several values of MobileNet's multipliers alpha and rho (as image sizes)."""
    own, sizes = scaling(d).backbone_width, [size for size in SIZES if size % stride == 0]
    rows = [["alpha", "params", *(f"GFLOPs@{size}" for size in sizes)]]
    for alpha in sorted({*USUAL_WIDTHS, own}):
        model = internals.build_model({**d, "backbone_width": alpha, "backbone_weights": None}, task)
        parameters, gflops = costs(model, sizes)
        mark = f"{alpha:g}{' *' if alpha == own else ''}"
        rows.append([mark, f"{parameters / 1e6:.2f} M", *(f"{each:.2f}" for each in gflops)])
    print("\nby width multiplier alpha (backbone_width) and image size, px; * is the config's own:\n")
    print_table(rows)


def _show_findings(findings: list[Finding]) -> None:
    """Print operators that edge compilers handle badly, with references to the vendors' pages."""
    if not findings:
        print("\nedge compilers: no operators known to be a problem")
        return
    pages = list(dict.fromkeys(finding.claim.page for finding in findings))
    print("\nOperators known to be a problem for edge compilers:\n")
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.claim.operator, finding.switch), []).append(finding)
    for first, *others in groups.values():
        rows = f", rows {', '.join(map(str, first.rows))}" if first.rows else ""
        times = "once" if first.count == 1 else f"{first.count} times"
        _print_wrapped(f"{first.claim.operator}: {times}{rows}; avoided by {first.switch}", 0, 4)
        for finding in (first, *others):
            _, compiler, says, page = finding.claim
            _print_wrapped(f"{compiler:<9} {says} [{pages.index(page) + 1}]", 2, 12)
    print()
    for number, page in enumerate(pages, 1):
        print(f"[{number}] {page}")
    if any(finding.claim.compiler == "NNAPI" for finding in findings):
        for note in NOTES:
            _print_wrapped(note, 0, 0)


def _print_wrapped(text: str, first: int, others: int) -> None:
    """Print a text wrapped to `COLUMNS`, indented by `first` spaces in its first line and `others` in the others."""
    wrapper = textwrap.TextWrapper(COLUMNS, " " * first, " " * others, break_long_words=False, break_on_hyphens=False)
    print(wrapper.fill(text))
