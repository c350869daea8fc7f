"""`yolo-lite list` and `yolo-lite info`: what backbones there are, what they cost, and which weights are published."""

import inspect
import sys
from pathlib import Path

from yolo_lite import _host
from yolo_lite._check import scaling
from yolo_lite._registry import ConfigError, suggest
from yolo_lite.backbones import Backbone, families
from yolo_lite.cost import cost, costs
from yolo_lite.exporting import is_exported, load
from yolo_lite.figures import USUAL_WIDTHS
from yolo_lite.sources import WIDTHS, published

IMGSZ = 640  # that costs are given for, pixels
SIZES = (640, 512, 416, 320, 224)  # MobileNet's resolution multiplier rho: 1, 0.8, 0.65, 0.5, 0.35
HEADER = ("backbone", "family", "params", "GFLOPs@640", "channels of P1 to P5", "ImageNet weights at width", "licence")


def show_list(words, timm=None):
    """Print a table of backbones.

    Args:
        words: Only those whose name or family has all of these words in it.
        timm: A pattern like `*repvit*`: print timm's networks of such names instead.

    Raises:
        ConfigError: There is none.
    """
    if timm is not None:
        import timm as library

        names = library.list_models(timm)
        if not names:
            raise ConfigError(f"timm {library.__version__} has no network {timm!r}")
        print(*names, sep="\n")
        return
    chosen = {n: s for n, s in sorted(families().items()) if all(w in n or w in _family(s).lower() for w in words)}
    if not chosen:
        raise ConfigError(f"no backbone has {' and '.join(words)} in its name{suggest(words[0], families())}")
    _print_table([HEADER, *(_row(name, stage) for name, stage in chosen.items())])
    print(f"\n{len(chosen)} backbones; timm's networks go by TimmBackbone: yolo-lite list timm='*repvit*'")


def _print_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(name, stage):
    backbone = Backbone(stage, name)
    parameters, gflops = cost(backbone)
    sources = _sources(name)
    return (
        name,
        _family(stage),
        f"{parameters / 1e6:.2f} M",
        f"{gflops:.2f}",
        " ".join(map(str, backbone.channels)),
        ", ".join(f"{width:g}" for width in sources) or "-",
        ", ".join(sorted({source.licence for source in sources.values()})) or "-",
    )


def _family(stage):
    return stage.__name__.removesuffix("Stage")


def _sources(name):
    return {width: source for width in WIDTHS if (source := published(name, width)) is not None}


def show_info(name):
    """Print what there is to know of one backbone, ours or timm's, or of a model: a config's name or path, or a .pt.

    Raises:
        ConfigError: There is none of that name.
    """
    if name.startswith("yolo") or Path(name).suffix in (".yaml", ".yml", ".pt") or is_exported(name):
        return _show_model(name)
    if name in families():
        stage = families()[name]
        backbone = Backbone(stage, name)
        print(f"{name}: {inspect.getdoc(sys.modules[stage.__module__])}\n")
        row = f"[-1, 1, {stage.__name__}, [{name}, LEVEL]]"
        levels = dict(enumerate(backbone.channels, 1))
    else:
        from yolo_lite.backbones.timm_backbone import TimmBackbone, levels_of

        near = suggest(name.lower(), families())
        try:
            levels = levels_of(name).channels
        except ConfigError as error:
            if "did you mean" in near:
                raise ConfigError(f"there is no backbone {name!r}{near}") from None
            raise ConfigError(f"{error}; our own are listed by yolo-lite list") from None
        backbone = TimmBackbone(3, name)
        print(f"{name}: through timm\n")
        row = f"[-1, 1, TimmBackbone, [{name}]], and [0, 1, Level, [LEVEL]]"
    print(f"row         {row}")
    try:
        parameters, gflops = cost(backbone)
        print(f"cost        {parameters / 1e6:.2f} M parameters, {gflops:.2f} GFLOPs at 640 px, fused, without a head")
    except (AssertionError, RuntimeError) as error:  # networks of a fixed size
        print(f"cost        unknown: does not run at 640 px ({' '.join(str(error).split())[:120]}); no use in a YAML")
    for level, channels in sorted(levels.items()):
        if level:
            print(f"P{level}/{2**level:<9} {channels} channels")
    for width, source in _sources(name).items():
        print(f"weights     width {width:g}: {source.name} {source.tag}, licence: {source.licence}")
    if not _sources(name):
        print("weights     none published")
    _show_lint(backbone)


def _show_model(name):
    """Print what there is to know of a whole model."""
    model = load(name, name, IMGSZ)
    if model.yolo is None:
        raise ConfigError(f"{name} is an exported file; info reads the .pt or .yaml that it was made from")
    d = model.yolo.model.yaml
    print(f"{name}: {model.yolo.task}, {d.get('nc')} classes\n")
    print(f"cost        {model.parameters / 1e6:.2f} M parameters, {model.gflops:.2f} GFLOPs at {IMGSZ} px, fused")
    if "backbone_width" in d:
        _show_multipliers(d, model.yolo.task)
    _show_lint(model.yolo.model)


def _show_multipliers(d, task):
    """Print what a config costs over both of MobileNet's multipliers: alpha, and rho as the image size."""
    own = scaling(d).backbone_width
    rows = [("alpha", "params", *(f"GFLOPs@{size}" for size in SIZES))]
    for alpha in sorted({*USUAL_WIDTHS, own}):
        model = _host.build_model({**d, "backbone_width": alpha, "backbone_weights": None}, task)
        parameters, gflops = costs(model, SIZES)
        mark = f"{alpha:g}{' *' if alpha == own else ''}"
        rows.append((mark, f"{parameters / 1e6:.2f} M", *(f"{each:.2f}" for each in gflops)))
    print("\nby width multiplier alpha (backbone_width) and image size, px; * is the config's own:\n")
    _print_table(rows)


def _show_lint(model):
    from yolo_lite.lint import NOTES, lint

    findings = lint(model)
    if not findings:
        print("\nedge compilers: nothing that they are known to dislike")
        return
    pages = list(dict.fromkeys(finding.claim.page for finding in findings))
    print("\nWhat compilers of edge devices are known to dislike in it:\n")
    table = [("operator", "found", "compiler", "", "avoided by", "source")]
    for finding in findings:
        operator, compiler, says, page = finding.claim
        rows = f", rows {', '.join(map(str, finding.rows))}" if finding.rows else ""
        times = "once" if finding.count == 1 else f"{finding.count} times"
        table.append((operator, times + rows, compiler, says, finding.switch, f"[{pages.index(page) + 1}]"))
    _print_table(table)
    print()
    for number, page in enumerate(pages, 1):
        print(f"[{number}] {page}")
    if any(finding.claim.compiler == "NNAPI" for finding in findings):
        print(*NOTES, sep="\n")
