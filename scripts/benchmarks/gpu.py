"""Run the checks that require a GPU: precision, AMP, compilation, latency, DDP; write docs/gpu.csv and docs/gpu.md.

    python scripts/benchmarks/gpu.py [device=0] [docs=docs] [only=latency]
    python scripts/benchmarks/gpu.py device=cpu docs=      # a small dry run of this script, without meaning for GPUs

For three shipped configs and the preset: outputs against the CPU's in float32 (TF32 off), an epoch with AMP on the
generated dataset, half-precision prediction, a compiled training step, channels-last, the latency in fp16 as a ratio to
YOLOv8n in the same run (interleaved), and two workers that average their gradients (gloo, both on the same device).
Rows are written as they come; `only=` runs the checks whose names start with it, and keeps the rows of the others.
Nothing else may run on the GPU while the latency is measured.
"""

import copy
import csv
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ultralytics import YOLO
from ultralytics.cfg import get_cfg

import yolo_lite  # noqa: F401  # registers the models in workers, too, and if yolo_lite is not installed

ROOT = Path(__file__).resolve().parents[2]
BASELINE = "yolov8n.yaml"
MODELS = ("yolov8n-mnv3.yaml", "yolo11n-mnv4.yaml", "yolov8n-timm.yaml", "yolo26s-lite.yaml")
COLUMNS = ("check", "model", "value", "needed", "verdict")
BATCH, ROUNDS = 8, 50


def main(device: str = "0", docs: str = "docs", only: str = "") -> int:
    where = torch.device("cpu" if device == "cpu" else f"cuda:{device}")
    if where.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; device=cpu is a dry check of this script")
    forbid_tf32()
    labels = [label for label in CHECKS if label.startswith(only)]
    rows = [row for row in read(Path(docs)) if row["check"] not in labels] if docs and only else []
    for label in labels:
        check, needed = CHECKS[label]
        for name in MODELS:
            try:
                value = check(name, where)
                verdict = "ok" if needed is None or value <= needed else "FAILS"
            except Exception as error:
                value, verdict = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}", "FAILS"
            shown = f"{value:.2g}" if isinstance(value, float) else value
            cells = (label, name.removesuffix(".yaml"), shown, "" if needed is None else f"at most {needed}", verdict)
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
            print(*rows[-1].values(), sep=" | ", flush=True)
            if docs:
                rows.sort(key=lambda row: [*CHECKS].index(row["check"]))
                write(rows, where, Path(docs))
    return int(any(row["verdict"] != "ok" for row in rows))


def forbid_tf32() -> None:
    """Disable TF32; since torch 2.9 the older switch leaves cuDNN's convolutions at their default."""
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    else:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def image(where: torch.device, batch: int = 2) -> torch.Tensor:
    size = 640 if where.type == "cuda" else 64
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(where)


def build(name: str, where: torch.device) -> torch.nn.Module:
    """Return a model whose BatchNorms have the statistics of a batch, so that outputs depend on the image."""
    torch.manual_seed(0)
    network = YOLO(name).model.to(where)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # cumulative instead of moving average
        norm.reset_running_stats()
    with torch.no_grad():
        network.train()(image(where, BATCH))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def output(network: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return a model's first output: boxes and scores, from the one-to-many head of an end-to-end model."""
    if getattr(network, "end2end", False):
        network.end2end = False  # top-k selection is not continuous
    with torch.no_grad():
        found = network(x)
    return (found[0] if isinstance(found, tuple | list) else found).float().cpu()


def deviation(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def against_cpu(name, where):
    network = build(name, torch.device("cpu"))
    x = image(where).cpu()
    return deviation(output(copy.deepcopy(network).to(where), x.to(where)), output(network, x))


def amp_epoch(name, where):
    """Train one epoch with AMP; return its training loss, or raise an error if it is not finite."""
    small = {} if where.type == "cuda" else {"fraction": 0.05, "imgsz": 64, "batch": 4}
    with tempfile.TemporaryDirectory() as folder:
        model = YOLO(name)
        device = where.index if where.type == "cuda" else "cpu"
        options = {"data": "shapes.yaml", "epochs": 1, "imgsz": 320, "plots": False, "val": False, "project": folder}
        model.train(**{**options, **small, "amp": True, "device": device})
        if where.type == "cuda" and not model.trainer.amp:
            raise RuntimeError("Ultralytics switched AMP off")
        with open(model.trainer.csv, newline="") as file:
            last = list(csv.DictReader(file))[-1]
        loss = sum(float(value) for key, value in last.items() if key.strip().startswith("train/"))
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}")
    return loss


def half_precision(name, where):
    network, x = build(name, where), image(where)
    return deviation(output(copy.deepcopy(network).half(), x.half()), output(network, x))


def channels_last(name, where):
    network, x = build(name, where), image(where)
    converted = copy.deepcopy(network).to(memory_format=torch.channels_last)
    return deviation(output(converted, x.contiguous(memory_format=torch.channels_last)), output(network, x))


def step(network, forward, where):
    """Run a forward and backward pass; return the loss and the norm of the gradients."""
    x = image(where)
    targets = {"batch_idx": [0.0, 1.0], "cls": [[0.0], [1.0]], "bboxes": [[0.5, 0.5, 0.4, 0.4], [0.4, 0.5, 0.3, 0.6]]}
    batch = {"img": x, **{key: torch.tensor(value, device=where) for key, value in targets.items()}}
    network.args = get_cfg()
    network.zero_grad()
    loss = network.loss(batch, forward(x))[0].sum()
    loss.backward()
    gradients = [p.grad.float().norm() for p in network.parameters() if p.grad is not None]
    return loss.item(), torch.stack(gradients).norm().item()


def compiled_step(name, where):
    """Return the relative difference of a compiled step's loss or gradient norm to the eager one's, the larger one."""
    network = build(name, where).train()
    twin = copy.deepcopy(network)
    plain = step(twin, twin.predict, where)
    backend = "inductor" if where.type == "cuda" else "aot_eager"
    compiled = step(network, torch.compile(network.predict, backend=backend), where)
    return max(abs(a - b) / abs(b) for a, b in zip(compiled, plain, strict=True))


def latency(name, where):
    """Return the latency relative to the baseline's: the median of the ratios in rounds that time both."""
    cuda = where.type == "cuda"
    dtype, rounds = (torch.float16, ROUNDS) if cuda else (torch.float32, 3)
    x = image(where, 1).to(dtype)
    networks = [build(each, where).fuse(verbose=False).to(dtype) for each in (name, BASELINE)]

    def timed(network):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        network(x)
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    with torch.no_grad():
        times = [[timed(network) for network in networks] for _ in range(2 * rounds)][rounds:]
    return statistics.median(ours / theirs for ours, theirs in times)


def two_workers(name, where):
    """Return the relative difference between the gradients of two workers after averaging."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(worker, (name, str(where), folder), nprocs=2)
        first, second = (torch.load(Path(folder, f"{rank}.pt")) for rank in (0, 1))
    return deviation(first, second)


def worker(rank, name, where, folder):
    where = torch.device(where)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = build(name, where).train()
    parallel = torch.nn.parallel.DistributedDataParallel(network, find_unused_parameters=True)
    step(network, lambda x: parallel(x + 0.1 * rank), where)
    gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    torch.save(torch.cat(gradients).cpu(), Path(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


CHECKS: dict[str, tuple[Callable[[str, torch.device], float], float | None]] = {  # name -> check, limit
    "outputs against the CPU, relative": (against_cpu, 1e-4),
    "AMP, an epoch: loss": (amp_epoch, None),
    "half precision, relative": (half_precision, 0.05),
    "compiled step, relative": (compiled_step, 1e-2),
    "channels-last, relative": (channels_last, 1e-4),
    "latency in fp16 / YOLOv8n's": (latency, None),
    "two workers' gradients, relative": (two_workers, 1e-5),
}


def read(docs):
    """Return the rows in docs/gpu.csv, written by an earlier run."""
    file = docs / "gpu.csv"
    return list(csv.DictReader(file.read_text("utf-8").splitlines())) if file.exists() else []


def write(rows, where, docs):
    with (docs / "gpu.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else "a CPU: a dry check of the script, no result"
    lines = [f"Measured on {card}, torch {torch.__version__}.", "", f"| {' | '.join(COLUMNS)} |", "|---" * 5 + "|"]
    lines += [f"| {' | '.join(str(row[column]) for column in COLUMNS)} |" for row in rows]
    page, begin, end = docs / "gpu.md", "<!-- gpu -->\n", "<!-- /gpu -->"
    head, _, rest = page.read_text("utf-8").partition(begin)
    page.write_text(head + begin + "\n".join(lines) + "\n" + end + rest.partition(end)[2], "utf-8")


if __name__ == "__main__":
    sys.exit(main(**dict(argument.split("=", 1) for argument in sys.argv[1:])))
