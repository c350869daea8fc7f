"""The studies on BCCD, 364 photographs of blood cells, all models from random start:

    backbones   lightweight backbones in YOLOv5n and YOLOv8n against the stock models; in docs/study-bccd
    lite        the preset yolo26s-lite against YOLOv8n, YOLO26n, and YOLOv8n shrunk to its latency; in docs/study-lite

    python scripts/study_bccd.py data=path/to/bccd.yaml [study=backbones] [folder=runs/study-bccd] [parallel=2]
                                                            train what is left
    python scripts/study_bccd.py data=path/to/bccd.yaml latency=True   the same, then time the models (quiet machine!)
    python scripts/study_bccd.py collect [study=backbones]  copy what is finished into docs, and write the report there

Interrupt it whenever you like, the first command goes on: with what its folder holds, and with the runs in docs that
the folder lacks. A new `lite` study times shrunk models before it trains: start it on a quiet machine.
Dataset: github.com/Shenggan/BCCD_Dataset, boxes as YOLO lines. 40 epochs, batch and `nbs` 16 (with the host's nbs=64
these 205 training pictures would give three optimizer steps an epoch), the last epoch's weights, test split.
"""

import os
import sys
from pathlib import Path

from yolo_lite._registry import ConfigError
from yolo_lite.compare import collect, compare, write_report
from yolo_lite.compare.plan import parse
from yolo_lite.compare.tables import headline

DOCS = Path(__file__).resolve().parent.parent / "docs"
SWAPPED = ["yolov8n-mnv3", "yolov8n-mnv4", "yolov8n-mnv4-extradw"]
WITH_ASPP = [
    f"yolov5n-{family}-aspp"
    for family in ("mnasnet", "mnv1", "mnv2", "mnv3", "ghostnet", "shufflenetv1", "shufflenetv2")
]
THREE, SIX = list(range(3)), list(range(6))
STUDIES = {
    "backbones": {
        "folder": "study-bccd",
        "models": ["yolov8n", "yolov5n", *SWAPPED, *WITH_ASPP],
        "seeds": {"all": THREE, **dict.fromkeys(["yolov8n", *SWAPPED], SIX)},  # and the rival has its model's
        "match": "gflops",
        "rivals": ["yolov8n-mnv3"],
        "imgsz": 256,
    },
    "lite": {
        "folder": "study-lite",
        "models": ["yolov8n", "yolo26n", "yolo26s-lite"],
        "seeds": SIX,
        "match": "latency",
        "rivals": ["yolo26s-lite:yolov8n"],
        "imgsz": 320,
    },
}


def main(words):
    collecting = "collect" in words
    _, settings = parse([word for word in words if word != "collect"])
    study = dict(STUDIES[settings.pop("study", "backbones")])
    name = study.pop("folder")
    kept, folder = DOCS / name, Path(settings.pop("folder", f"runs/{name}")).absolute()
    if collecting:
        print(f"{collect.copy(folder, kept)} runs copied")
        print(headline(write_report(kept)))
        return 0
    if (kept / "comparison.json").exists():
        collect.copy(kept, folder)
    data = Path(settings.pop("data", "bccd.yaml")).absolute()
    if data.exists():  # the recorded commands then name the dataset without this machine's path
        os.chdir(data.parent)
    outcome = compare(
        {
            **study,
            "baseline": "yolov8n",
            "data": data.name,
            "split": "test",
            "parallel": 2,
            "latency": False,
            "project": str(folder.parent),
            "name": folder.name,
            "epochs": 40,
            "batch": 16,
            "nbs": 16,
            **settings,
        }
    )
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ConfigError as error:
        sys.exit(f"study_bccd: {error}")
