"""Ablation of a backbone swap on YOLOv5n and YOLOv8n: measure what each part costs; write docs/ablation.md.

Variants: the base, the naive swap (MobileNetV3-Large at full width), the swap as shipped (half width), and the shipped
swap with ASPP, ExtraDW fusion, the light neck, the light neck and head, or the slim neck and head. Reports parameters,
GFLOPs, and latency in onnxruntime with all variants of a base interleaved and the base measured twice as a control.
Also compares stock YOLO11n with a copy in which only its neck's C3k2 is replaced by C3k2ExtraDW. Requires an otherwise
idle machine for about five minutes.

    python scripts/studies/ablation.py [seconds=10] [imgsz=640] [threads=1]
"""

import sys
import tempfile
from pathlib import Path

import yaml

from yolo_lite import make
from yolo_lite.bench import measure
from yolo_lite.bench.runtimes import environment
from yolo_lite.cost import row_gflops
from yolo_lite.files import write
from yolo_lite.output import say
from yolo_lite.ultralytics_hooks import configs

ROOT = Path(__file__).resolve().parents[2]
BACKBONE = "mobilenetv3_large_100"
SHIPPED = 0.5
VARIANTS = {
    "naive swap, alpha 1": {"width": 1.0},
    "swap as shipped, alpha 0.5": {"width": SHIPPED},
    "shipped, ASPP": {"width": SHIPPED, "neck": "aspp"},
    "shipped, ExtraDW fusion": {"width": SHIPPED, "neck": "extradw"},
    "shipped, light neck": {"width": SHIPPED, "neck": "light"},
    "shipped, light neck and head": {"width": SHIPPED, "neck": "light", "head": "light"},
    "shipped, slim neck and head": {"width": SHIPPED, "neck": "slim", "head": "slim"},
}


def main(seconds: str = "10", imgsz: str = "640", threads: str = "1") -> None:
    lines = [
        "# What each part of a swap costs and saves",
        "",
        f"Written by `scripts/studies/ablation.py`: {BACKBONE}, 80 classes, fused, {imgsz} px, random weights. Time: "
        f"onnxruntime, fp32, {threads} thread, relative to the base: the median of the ratios within interleaved "
        "rounds, with its 95 % interval; the base measured again is the control. **Bold**: slower than the base. "
        "*Neck*: GFLOPs of the rows between the YAML's backbone (with its SPPF or ASPP) and its head.",
    ]
    for base in ("yolov5", "yolov8", "yolo11"):
        with tempfile.TemporaryDirectory() as folder:
            models = {f"stock {base}n": f"{base}n", **variants(base, Path(folder))}
            measured = measure(models, ["onnxruntime"], (int(threads),), int(imgsz), float(seconds), say=say)
            necks = [neck_gflops(name, int(imgsz)) for name in models.values()]
        lines += [
            "",
            f"## {base}n",
            "",
            "| model | parameters | GFLOPs | neck | time | 95 % |",
            "|---|---|---|---|---|---|",
        ]
        for row, neck in zip(measured, [*necks, necks[0]], strict=True):
            ratio = f"**{row.ratio:.2f}**" if row.low > 1 else f"{row.ratio:.2f}"
            lines.append(
                f"| {row.name} | {row.parameters / 1e6:.2f} M | {row.gflops:.2f} | {neck:.2f} | {ratio} "
                f"| {row.low:.2f} to {row.high:.2f} |"
            )
    versions = [f"- {name}: {value}" for name, value in environment(["onnxruntime"]).items()]
    write(ROOT / "docs" / "ablation.md", "\n".join([*lines, "", "Measured with:", "", *versions, ""]))


def variants(base: str, folder: Path) -> dict[str, str]:
    """Write the YAMLs of a base's variants; return their paths at scale n, by description."""
    written = {}
    if base == "yolo11":
        d = yaml.safe_load(configs.stock_configs()[base].read_text("utf-8"))
        d["head"] = [[*row[:2], row[2].replace("C3k2", "C3k2ExtraDW"), row[3]] for row in d["head"]]
        (folder / f"{base}-c3k2extradw.yaml").write_text(yaml.safe_dump(d))
        return {"C3k2ExtraDW in its neck": str(folder / f"{base}n-c3k2extradw.yaml")}
    for number, (name, options) in enumerate(VARIANTS.items(), 1):
        make(base, BACKBONE, **options, count=False, out=folder / f"{base}-{number}.yaml")
        written[name] = str(folder / f"{base}n-{number}.yaml")
    return written


def neck_gflops(name: str, imgsz: int) -> float:
    from ultralytics import YOLO

    model = YOLO(name if name.endswith(".yaml") else f"{name}.yaml").model
    return sum(row_gflops(model, imgsz)[len(model.yaml["backbone"]) : -1])


if __name__ == "__main__":
    main(**dict(word.split("=", 1) for word in sys.argv[1:]))
