"""Writes the measured figures into the headers of cfg/*.yaml and into the README's table.

python scripts/figures.py            recompute all and write
python scripts/figures.py --check    recompute scale n only and compare; exit status 1 where a figure differs
"""

import functools
import re
import sys
from pathlib import Path
from typing import NamedTuple

from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite._registry import specs
from yolo_lite.cost import cost
from yolo_lite.pretrained import published

ROOT = Path(__file__).parent.parent
TITLE = "# Fused, 640 px, 80 classes, beside the stock host's (written by scripts/figures.py):"
COLUMNS = "#   scale   parameters         GFLOPs             alpha   ImageNet weights"
README_TABLE = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.S)


def configs():
    return sorted((ROOT / "cfg").glob("*.yaml"))


class Figures(NamedTuple):
    """What is stated of a config at a scale, and of its stock host."""

    parameters: int
    gflops: float
    host_parameters: int
    host_gflops: float
    alpha: float | None  # None: the backbone has no width multiplier
    published: bool  # whether there are ImageNet weights at this alpha


@functools.cache
def host_cost(name):
    return cost(DetectionModel(name, verbose=False))


def figures(path, letter):
    host = path.name.partition("-")[0]
    d = yaml_model_load(path.with_name(path.name.replace(host, host + letter, 1)))
    ours = cost(DetectionModel(d, verbose=False))
    stock = host_cost(f"{host}{letter}.yaml")
    _, _, module, (variant, *_) = d["backbone"][0]
    if module == "TimmBackbone":
        return Figures(*ours, *stock, None, bool(published(variant)))
    alpha = d["backbone_width"][letter]
    return Figures(*ours, *stock, alpha, bool(published(specs()[module].cls.resolve(variant), alpha)))


def header_line(letter, row):
    return (
        f"#   {letter}     {row.parameters / 1e6:7.2f} M ({row.host_parameters / 1e6:.2f})".ljust(31)
        + f"{row.gflops:7.2f} ({row.host_gflops:.2f})".ljust(20)
        + ("-" if row.alpha is None else f"{row.alpha:4.2f}").ljust(8)
        + ("yes" if row.published else "no")
    )


def readme_line(path, row):
    name = path.stem.replace("-", "n-", 1)
    return (
        f"| `{name}` | {'-' if row.alpha is None else f'{row.alpha:g}'} | {'yes' if row.published else 'no'} "
        f"| {row.parameters / 1e6:.2f} M | {row.gflops:.2f} "
        f"| {row.parameters / row.host_parameters:.0%} | {row.gflops / row.host_gflops:.0%} |"
    )


def write():
    table = [
        "| config, scale n | alpha | ImageNet weights | parameters | GFLOPs | parameters / host's | GFLOPs / host's |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in configs():
        text = path.read_text("utf-8")
        rows = {letter: figures(path, letter) for letter in yaml_model_load(path)["scales"]}
        lines = [TITLE, COLUMNS, *(header_line(letter, row) for letter, row in rows.items())]
        comment, gap, body = text.partition("\n\n")
        kept = [line for line in comment.split("\n" + TITLE)[0].splitlines()]
        path.write_text("\n".join([*kept, *lines]) + gap + body, "utf-8")
        table.append(readme_line(path, rows["n"]))
        print(path.name, *lines[2:], sep="\n")
    readme = ROOT / "README.md"
    readme.write_text(README_TABLE.sub(lambda m: m[1] + "\n".join(table) + "\n" + m[2], readme.read_text("utf-8")))


def check():
    """Return the lines that should stand in a file, and do not."""
    missing = []
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in configs():
        row = figures(path, "n")
        if header_line("n", row) not in path.read_text("utf-8").splitlines():
            missing.append(f"{path.name}: {header_line('n', row)}")
        if readme_line(path, row) not in readme.splitlines():
            missing.append(f"README.md: {readme_line(path, row)}")
    return missing


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        wrong = check()
        print(*wrong or ["all figures are as measured"], sep="\n")
        sys.exit(bool(wrong))
    write()
