"""Generate the shipped configs, cfg/*.yaml, with `yolo-lite make`, and the tables of their size, cost and latency.

python scripts/release/configs.py             write everything: configs and the tables of docs/configs.md, docs/which.md
                                              and the README; latencies come from scripts/benchmarks/bench_configs.py
python scripts/release/configs.py --tables    write the tables only
python scripts/release/configs.py --check     recompute scale n only and compare; exit with status 1 on any difference
"""

import csv
import functools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from yolo_lite import make
from yolo_lite.compose import budget
from yolo_lite.compose.budget import Figures, figure_line
from yolo_lite.compose.recipe import Recipe
from yolo_lite.files import between, write
from yolo_lite.options import TASKS
from yolo_lite.weights.published import published

ROOT = Path(__file__).resolve().parents[2]
PATTERN = (
    "A pattern: put any timm name into the first row. Most networks at full width are heavier than the backbone they "
    "replace, and this one's figures are stated below."
)
ASPP = "An experiment: ASPP in place of SPPF. Compare its figures with its base's before you choose it."

BACKBONES = {
    "mnv1": "mobilenetv1_100",
    "mnv2": "mobilenetv2_100",
    "mnv3": "mobilenetv3_large_100",
    "mnv3-small": "mobilenetv3_small_100",
    "mnv4": "mobilenetv4_conv_small",
    "mnasnet": "mnasnet1_0",
    "ghostnet": "ghostnet_100",
    "ghostnetv2": "ghostnetv2_100",
    "shufflenetv1": "shufflenet_v1_g3",
    "shufflenetv2": "shufflenet_v2_x1_0",
    "efficientnet": "efficientnet_b0",
    "efficientnet-lite": "efficientnet_lite0",
    "unireplknet": "unireplknet_a",
    "timm": "timm/mobilenetv4_conv_small",
}
# a width with published weights if one is lighter than the base
ALPHAS = {"n": 0.5, "s": 1.0, "m": 1.0, "l": 1.0, "x": 1.0}
SWAPPABLE = ("yolov5", "yolov8", "yolo11", "yolo26")
OTHER_ALPHAS = {  # where the default width is slower (see docs/latency.md) or costs more than the base
    ("yolov5", "mnv1"): {"n": 0.25, "s": 0.75},
    **{(base, "efficientnet"): {"n": 0.35} for base in ("yolov5", "yolov8")},
    **{(base, "efficientnet-lite"): {"n": 0.35} for base in ("yolov5", "yolov8")},
    **{(base, "ghostnet"): {"n": 0.35} for base in SWAPPABLE},
    ("yolov5", "ghostnetv2"): {"n": 0.25},
    ("yolov8", "ghostnetv2"): {"n": 0.35},
    **{(base, "mnv3-small"): {"n": 1.0} for base in ("yolov5", "yolov8")},
    ("yolov8", "mnv4"): {"n": 1.0},
    ("yolov5", "unireplknet"): {"n": 0.35, "s": 0.75},
    ("yolov8", "unireplknet"): {"n": 0.35},
    **{(base, "shufflenetv2"): {"m": 1.5, "l": 2.0, "x": 2.0} for base in SWAPPABLE},
}
LITE = {  # the preset: the best trade-off between latency and accuracy, see docs/lite.md
    "base": "yolo26",
    "backbone": "csplite_100",
    "neck": "slim",
    "head": "slim",
    "width": {"s": 1.0, "n": 0.5},
    "keys": {"scales": {"s": [0.33, 0.25, 1024], "n": [0.33, 0.125, 1024]}, "reg_max": 8, "end2end": False},
    "note": "The preset for edge devices: docs/lite.md.",
}
LITE_MNV4 = "The preset with a backbone that has ImageNet weights: docs/lite.md."
LITE_TASKS = ("detect", "segment", "pose", "obb")
LATER_BASES = ("mnv3", "mnv4", "mnasnet", "ghostnet", "shufflenetv2")
WITH_ASPP = ("mnasnet", "mnv1", "mnv2", "mnv3", "ghostnet", "shufflenetv1", "shufflenetv2")
WITH_EXTRADW = (("yolov8", "mnv4"), ("yolo11", "mnv4"))

Options = Mapping[str, Any]  # options of `yolo-lite make`


def shipped() -> dict[str, Options]:
    """Return the `make` options of every shipped config, by file name."""
    made: dict[str, Options] = {}

    def add(base: str, short: str, suffix: str = "", **options: Any) -> None:
        alphas = None if short == "timm" else {**ALPHAS, **OTHER_ALPHAS.get((base, short), {})}
        made[f"{base}-{short}{suffix}.yaml"] = {"base": base, "backbone": BACKBONES[short], "width": alphas, **options}

    for base in ("yolov5", "yolov8"):
        for short in BACKBONES:
            if short != "timm":
                add(base, short)
    add("yolov8", "timm", note=PATTERN)
    for base in ("yolo11", "yolo26"):
        for short in LATER_BASES:
            add(base, short)
    for short in WITH_ASPP:
        add("yolov5", short, "-aspp", neck="aspp", note=ASPP)
    for base, short in WITH_EXTRADW:
        add(base, short, "-extradw", neck="extradw")
    for task in LITE_TASKS:
        made[f"yolo26-lite{TASKS[task]}.yaml"] = {**LITE, "task": task}
    made["yolo26-lite-mnv4.yaml"] = {**LITE, "backbone": BACKBONES["mnv4"], "note": LITE_MNV4}
    return made


def experiment(name: str) -> bool:
    """Return whether a config is an experimental one, which may be heavier than its base."""
    return "-aspp" in name or "-timm" in name


def figures(name: str, options: Options, letter: str = "n") -> Figures:
    """Return the parameters and GFLOPs of a shipped config and of its base at one scale."""
    body = (ROOT / "cfg" / name).read_text("utf-8").partition("\n\n")[2]
    alphas = options["width"]
    return budget.figures(body, Recipe.of(options), letter, None if alphas is None else alphas[letter])


# Tables ---------------------------------------------------------------------------------------------------------------


def at_n(name: str) -> str:
    """Return the name by which Ultralytics finds a config at scale n."""
    return name.removesuffix(".yaml").replace("-", "n-", 1)


HEAD = [
    "| config, scale n | alpha | ImageNet weights | parameters | GFLOPs | parameters / base's | GFLOPs / base's "
    "| time / base's, onnxruntime | OpenVINO |",
    "|---|---|---|---|---|---|---|---|---|",
]


def table_line(name: str, row: Figures) -> str:
    """Return a config's row in the tables of docs/configs.md."""
    return (
        f"| `{at_n(name)}` | {'-' if row.alpha is None else f'{row.alpha:g}'} "
        f"| {'yes' if row.published else 'no'} | {row.parameters / 1e6:.2f} M | {row.gflops:.2f} "
        f"| {row.parameters / row.base_parameters:.0%} | {row.gflops / row.base_gflops:.0%} "
        f"| {time_of(name, 'onnxruntime')} | {time_of(name, 'openvino')} |"
    )


LICENCES = {"apache-2.0": "yes, Apache-2.0", "see torchvision's model page": "yes, see torchvision"}
README_HEAD = ["| config | parameters | GFLOPs | time | weights |", "|---|---|---|---|---|"]


def readme_line(name: str, row: Figures) -> str:
    """Return a config's row in the README's table."""
    options = shipped()[name]
    source = published(options["backbone"], row.alpha) if row.published and row.alpha is not None else None
    weights = LICENCES.get(source.licence, source.licence) if source else "no"
    costs = f"{row.parameters / 1e6:.2f} M | {row.gflops:.2f} | {time_of(name, 'onnxruntime')}"
    return f"| `{at_n(name)}` | {costs} | {weights} |"


def in_readme(name: str) -> bool:
    """Return whether a config is listed in the tables of the README and docs/which.md."""
    return name.startswith("yolov8") and not experiment(name)


@functools.cache
def measured_ratios() -> dict[tuple[str, str], float]:
    """Return the fp32 latency ratios to the base from docs/latency.csv, by config and runtime."""
    file = ROOT / "docs" / "latency.csv"
    rows = csv.DictReader(file.read_text("utf-8").splitlines()) if file.exists() else []
    return {
        (row["config"], row["runtime"]): float(row["ratio"])
        for row in rows
        if row["model"] == row["config"] and row["precision"] == "fp32"
    }


def time_of(name: str, runtime: str) -> str:
    """Return the latency ratio of a config to its base at scale n as text, in bold if the config is slower."""
    ratio = measured_ratios().get((at_n(name), runtime))
    if ratio is None:
        return "not measured"
    return f"**{ratio:.2f}**" if slower(ratio) else f"{ratio:.2f}"


def slower(ratio: float) -> bool:
    """Return whether a config is slower than its base, with the ratio rounded to two decimals."""
    return round(ratio, 2) > 1


def slower_line() -> str:
    """Return a sentence naming the configs that are slower than their bases, experimental configs excluded."""
    found: dict[str, list[str]] = {}
    for (config, runtime), ratio in sorted(measured_ratios().items()):
        if slower(ratio) and not experiment(config):
            where = "OpenVINO" if runtime == "openvino" else runtime
            found.setdefault(config, []).append(f"{ratio:.2f} in {where}")
    named = [f"`{config}` ({', '.join(where)})" for config, where in found.items()]
    return f"Slower than their bases in fp32, `-aspp` and `-timm` excluded: {', '.join(named) or 'none'}."


def by_time(lines: Sequence[str]) -> list[str]:
    """Return a table of name, latencies, accuracy and size from the configs' rows, fastest in onnxruntime first."""
    order = (0, 7, 8, 9, 3, 2)

    def time(row: Sequence[str]) -> float:
        cell = row[7].strip("*")
        return float(cell) if cell[0].isdigit() else float("inf")

    rows = sorted(([cell.strip() for cell in line.strip("|").split("|")] for line in lines), key=time)
    rows = [[*row[:9], accuracy_of(row[0].strip("`"))] for row in rows]
    head = ("config, scale n", "onnxruntime", "OpenVINO", "mAP50-95, blood cells", "parameters", "ImageNet weights")
    cells = [head, ["---"] * len(head), *([row[place] for place in order] for row in rows)]
    return [f"| {' | '.join(each)} |" for each in cells]


def accuracy_of(config: str) -> str:
    """Return the difference of a model's mAP50-95 to YOLOv8n's in docs/study-bccd as text, in points."""
    study = json.loads((ROOT / "docs" / "study-bccd" / "results.json").read_text("utf-8"))
    difference = study["models"].get(config, {}).get("difference", {}).get("mAP50-95")
    return f"{100 * difference['mean']:+.1f}" if difference else "not measured"


def tables(lines: Mapping[str, str]) -> list[str]:
    """Return the tables of docs/configs.md, one per base, from each config's row."""
    found: list[str] = []
    bases = sorted({options["base"] for options in shipped().values()}, key=lambda base: int(re.sub(r"\D", "", base)))
    for base in bases:
        found += [f"### {base}", "", *HEAD, *(line for name, line in lines.items() if name.startswith(base)), ""]
    return found[:-1]


def write_pages(configs: bool = True) -> None:
    """Write the tables, and every config if `configs` is true."""
    lines: dict[str, str] = {}
    short = list(README_HEAD)
    for name, options in shipped().items():
        if configs:
            make(**options, out=ROOT / "cfg" / name, exist_ok=True)
        row = figures(name, options)
        lines[name] = table_line(name, row)
        short += [readme_line(name, row)] if in_readme(name) else []
        print(lines[name], flush=True)
    page, which, readme = ROOT / "docs" / "configs.md", ROOT / "docs" / "which.md", ROOT / "README.md"
    text = between(page.read_text("utf-8"), "figures", tables(lines))
    write(page, between(text, "slower", [slower_line()]))
    shown = [line for name, line in lines.items() if in_readme(name)]
    write(which, between(which.read_text("utf-8"), "cpu", by_time(shown)))
    write(readme, between(readme.read_text("utf-8"), "figures", short))


def check() -> list[str]:
    """Return what is out of date in the files: configs that `make` now writes differently, and figures of scale n."""
    wrong = []
    stated = ((ROOT / "README.md").read_text("utf-8") + (ROOT / "docs" / "configs.md").read_text("utf-8")).splitlines()
    for name, options in shipped().items():
        text = (ROOT / "cfg" / name).read_text("utf-8")
        if yaml.safe_load(text) != yaml.safe_load(make(**options, count=False)):
            wrong.append(f"{name}: yolo-lite make writes another one now")
        row = figures(name, options)
        if figure_line("n", row) not in text.splitlines():
            wrong.append(f"{name}: {figure_line('n', row)}")
        if table_line(name, row) not in stated:
            wrong.append(f"docs/configs.md: {table_line(name, row)}")
        if in_readme(name) and readme_line(name, row) not in stated:
            wrong.append(f"README.md: {readme_line(name, row)}")
    if slower_line() not in stated:
        wrong.append(f"docs/configs.md: {slower_line()}")
    return wrong


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        found = check()
        print(*found or ["all configs and figures are as they should be"], sep="\n")
        sys.exit(bool(found))
    write_pages(configs=sys.argv[1:] != ["--tables"])
