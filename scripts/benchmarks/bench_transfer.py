"""Measure time and memory of a transfer from YOLOv8n to yolo26s-lite, at 320 px with 64 and 256 images.

Each transfer runs in its own process, which reports its peak resident memory; images and weights are random.

    python scripts/benchmarks/bench_transfer.py [threads=2] [images=64,256] [imgsz=320]
"""

import resource
import subprocess
import sys
import time


def main(words: list[str]) -> None:
    """Measure each number of images in its own process; in such a process, with `one=`, measure once."""
    given = {"threads": "2", "images": "64,256", "imgsz": "320", **dict(word.split("=") for word in words)}
    if "one" in given:
        print(measure(int(given["one"]), int(given["imgsz"]), int(given["threads"])), flush=True)
        return
    for count in given["images"].split(","):
        command = [sys.executable, __file__, f"one={count}", f"imgsz={given['imgsz']}", f"threads={given['threads']}"]
        subprocess.run(command, check=True)


def measure(count: int, imgsz: int, threads: int) -> str:
    """Run one transfer; return its time and memory as text."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    import yolo_lite  # noqa: F401  (registers our models)
    from yolo_lite.weights.transfer import transfer

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    source, target = (DetectionModel(name, verbose=False) for name in ("yolov8n.yaml", "yolo26s-lite.yaml"))
    images = torch.randint(0, 256, (count, 3, imgsz, imgsz), dtype=torch.uint8)
    before = _peak()
    began = time.perf_counter()
    done = transfer(source, target, images)
    seconds = time.perf_counter() - began
    return (
        f"{count} images, {imgsz} px, {threads} threads: {seconds:.1f} s, {_peak() / 2**30:.2f} GiB at its peak "
        f"({before / 2**30:.2f} before); {done}"
    )


def _peak() -> int:
    """Return the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
