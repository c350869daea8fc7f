"""Measure the speed-up of a CPU training step by yolo_lite's channels-last conversion for depthwise layers.

Times whole training steps (forward, loss, backward, optimizer) of a YOLOv8n with a MobileNetV3-Large backbone of width
1.0, alternately with and without the conversion, and prints the medians and their ratio.

    python scripts/benchmarks/bench_train_step.py [rounds]
"""

import statistics
import sys
import time

import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_lite.backbones import _stage

BATCH, SIZE, BOXES = 8, 320, 40  # boxes in the whole batch


def main(rounds=15):
    torch.manual_seed(0)
    config = yaml_model_load("yolov8n-mnv3.yaml")
    config["backbone_width"] = 1.0
    model = DetectionModel(config, verbose=False).train()
    model.args = get_cfg()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = {
        "img": torch.rand(BATCH, 3, SIZE, SIZE),
        "batch_idx": torch.arange(BATCH).repeat_interleave(BOXES // BATCH).float(),
        "cls": torch.randint(0, 80, (BOXES, 1)).float(),
        "bboxes": torch.rand(BOXES, 4) * 0.4 + 0.1,
    }

    def step(layout):
        _stage.to_fast_layout = layout
        start = time.perf_counter()
        optimizer.zero_grad()
        model(batch)[0].sum().backward()
        optimizer.step()
        return time.perf_counter() - start

    layouts = {"channels-last": _stage.to_fast_layout, "as it comes": lambda x: x}
    seconds = {name: [] for name in layouts}
    for turn in range(rounds + 2):
        for name, layout in layouts.items():
            duration = step(layout)
            if turn >= 2:  # the first two are warm-up steps
                seconds[name].append(duration)
        print(f"\r{turn + 1}/{rounds + 2}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    fast, plain = (statistics.median(values) for values in seconds.values())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, {SIZE} px, {rounds} rounds")
    print(f"median step: {fast:.3f} s with channels-last, {plain:.3f} s without; ratio {fast / plain:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
