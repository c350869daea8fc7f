"""What each part of a swap costs and saves, on YOLOv5n and YOLOv8n: writes docs/ablation.md.

Stock host, the naive swap (MobileNetV3-Large at full width), the swap as shipped (half width), and that with ASPP, with
ExtraDW fusion, with the light neck, and with the light neck and head: parameters, GFLOPs, and latency in onnxruntime
with all of a host's variants interleaved and the host a second time as control. Needs a machine that does nothing else.

    python scripts/ablation.py [seconds=10] [imgsz=640] [threads=1]
"""

import sys
import tempfile
from pathlib import Path

from yolo_lite import make
from yolo_lite.bench import environment, measure, say
from yolo_lite.bench_report import replace

ROOT = Path(__file__).parent.parent
BACKBONE = "mobilenetv3_large_100"
SHIPPED = 0.5
VARIANTS = {
    "naive swap, alpha 1": {"width": 1.0},
    "swap as shipped, alpha 0.5": {"width": SHIPPED},
    "shipped, ASPP": {"width": SHIPPED, "neck": "aspp"},
    "shipped, ExtraDW fusion": {"width": SHIPPED, "neck": "extradw"},
    "shipped, light neck": {"width": SHIPPED, "neck": "light"},
    "shipped, light neck and head": {"width": SHIPPED, "neck": "light", "head": "light"},
}


def main(seconds="10", imgsz="640", threads="1"):
    lines = [
        "# What each part of a swap costs and saves",
        "",
        f"Written by `scripts/ablation.py`: {BACKBONE}, 80 classes, fused, {imgsz} px, random weights. Time: "
        f"onnxruntime, fp32, {threads} thread, over the stock host's: the median of the ratios within interleaved "
        "rounds, with its 95 % interval. **Bold**: slower than the host.",
    ]
    for host in ("yolov5", "yolov8"):
        with tempfile.TemporaryDirectory() as folder:
            models = {f"stock {host}n": f"{host}n"}
            for name, options in VARIANTS.items():
                path = Path(folder) / f"{host}-{len(models)}.yaml"
                make(host, BACKBONE, **options, count=False, out=path)
                models[name] = str(path.with_name(path.name.replace(host, f"{host}n", 1)))
            rows = measure(models, ["onnxruntime"], (int(threads),), int(imgsz), float(seconds), say=say)
        lines += ["", f"## {host}n", "", "| model | parameters | GFLOPs | time | 95 % |", "|---|---|---|---|---|"]
        for row in rows:
            ratio = f"**{row.ratio:.2f}**" if row.low > 1 else f"{row.ratio:.2f}"
            lines.append(
                f"| {row.model} | {row.parameters / 1e6:.2f} M | {row.gflops:.2f} | {ratio} "
                f"| {row.low:.2f} to {row.high:.2f} |"
            )
    versions = [f"- {name}: {value}" for name, value in environment(["onnxruntime"]).items()]
    replace(ROOT / "docs" / "ablation.md", "\n".join([*lines, "", "Measured with:", "", *versions, ""]))


if __name__ == "__main__":
    main(**dict(word.split("=", 1) for word in sys.argv[1:]))
