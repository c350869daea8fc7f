"""The study: lightweight backbones against stock YOLOs on BCCD, 364 photographs of blood cells, from random start.

    python scripts/study_bccd.py data=path/to/bccd.yaml [folder=runs/study-bccd] [parallel=2]   train what is left
    python scripts/study_bccd.py data=path/to/bccd.yaml latency=True   the same, then time the models (quiet machine!)
    python scripts/study_bccd.py collect [folder=runs/study-bccd]      copy what is finished into docs/study-bccd, and
                                                                       write the report there

Interrupt it whenever you like, the first command goes on: with what its folder holds, and with the runs in
docs/study-bccd that the folder lacks. Models whose configs do not exist yet are left out and said so; they join later.
Dataset: github.com/Shenggan/BCCD_Dataset, boxes as YOLO lines. 320 px, 40 epochs, batch and `nbs` 16 (with the host's
nbs=64 these 205 training pictures would give three optimizer steps an epoch), the last epoch's weights, test split.
"""

import os
import sys
from pathlib import Path

from yolo_lite import _host
from yolo_lite._registry import ConfigError
from yolo_lite.compare import collect, compare, write_report
from yolo_lite.compare.plan import parse
from yolo_lite.compare.tables import headline

KEPT = Path(__file__).resolve().parent.parent / "docs" / "study-bccd"
STOCK = ["yolov8n", "yolov5n"]
SWAPPED = [
    "yolov8n-mnv3", "yolov8n-mnv4", "yolov8n-mnv4-extradw",
    "yolov5n-mnasnet-aspp", "yolov5n-mnv1-aspp", "yolov5n-mnv2-aspp", "yolov5n-mnv3-aspp", "yolov5n-ghostnet-aspp",
    "yolov5n-shufflenetv1-aspp", "yolov5n-shufflenetv2-aspp",
]  # fmt: skip
SHRUNK_FOR = "yolov8n-mnv3"  # the equal-GFLOPs rival: yolov8n, narrower
SIX_SEEDS = ["yolov8n", "yolov8n-mnv3", "yolov8n-mnv4", "yolov8n-mnv4-extradw"]  # and the rival
RECIPE = {"imgsz": 320, "epochs": 40, "batch": 16, "nbs": 16}


def main(words):
    collecting = "collect" in words
    _, settings = parse([word for word in words if word != "collect"])
    folder = Path(settings.pop("folder", "runs/study-bccd")).absolute()
    if collecting:
        print(f"{collect.copy(folder, KEPT)} runs copied")
        print(headline(write_report(KEPT)))
        return 0
    if (KEPT / "comparison.json").exists():
        collect.copy(KEPT, folder)
    there = [name for name in SWAPPED if f"{name.replace('n-', '-', 1)}.yaml" in _host.configs()]
    print("left out, no config yet:", ", ".join(name for name in SWAPPED if name not in there) or "none")
    data = Path(settings.pop("data", "bccd.yaml")).absolute()
    if data.exists():  # the recorded commands then name the dataset without this machine's path
        os.chdir(data.parent)
    outcome = compare(
        {
            "models": STOCK + there,
            "baseline": "yolov8n",
            "seeds": {"all": [0, 1, 2], **{name: list(range(6)) for name in SIX_SEEDS if name in STOCK + there}},
            "data": data.name,
            "split": "test",
            "match": "gflops",
            "rivals": [SHRUNK_FOR],
            "parallel": 2,
            "latency": False,
            "project": str(folder.parent),
            "name": folder.name,
            **RECIPE,
            **settings,
        }
    )
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"study_bccd: {error}")
