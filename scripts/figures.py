"""Writes the measured figures into the headers of cfg/*.yaml and into the README's table.

python scripts/figures.py            recompute all and write
python scripts/figures.py --check    recompute scale n only and compare; exit status 1 where a figure differs
"""

import re
import sys
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite.cost import cost

ROOT = Path(__file__).parent.parent
TITLE = "# Fused, 640 px, 80 classes, beside the stock host's (written by scripts/figures.py):"
COLUMNS = "#   scale   parameters         GFLOPs             alpha"
README_TABLE = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.S)


def configs():
    return sorted((ROOT / "cfg").glob("*.yaml"))


def figures(path, letter):
    """Return parameters and GFLOPs of a config and of its stock host at a scale, and the config's alpha."""
    host = path.name.partition("-")[0]
    ours, stock = (
        cost(DetectionModel(yaml_model_load(name), verbose=False))
        for name in (path.with_name(path.name.replace(host, host + letter, 1)), f"{host}{letter}.yaml")
    )
    return *ours, *stock, yaml_model_load(path)["backbone_width"][letter]


def header_line(letter, row):
    parameters, gflops, host_parameters, host_gflops, alpha = row
    return (
        f"#   {letter}     {parameters / 1e6:7.2f} M ({host_parameters / 1e6:.2f})".ljust(31)
        + f"{gflops:7.2f} ({host_gflops:.2f})".ljust(20)
        + f"{alpha:4.2f}"
    )


def readme_line(path, row):
    parameters, gflops, host_parameters, host_gflops, alpha = row
    name = path.stem.replace("-", "n-", 1)
    return (
        f"| `{name}` | {alpha:g} | {parameters / 1e6:.2f} M | {gflops:.2f} "
        f"| {parameters / host_parameters:.0%} | {gflops / host_gflops:.0%} |"
    )


def write():
    table = [
        "| config, scale n | alpha | parameters | GFLOPs | parameters / host's | GFLOPs / host's |",
        "|---|---|---|---|---|---|",
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
