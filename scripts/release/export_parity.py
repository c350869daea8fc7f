"""Whether exports compute what PyTorch computes: every native family and preset, scale n, every runtime.

Writes docs/exports.csv and docs/exports.md.

Each model gets the BatchNorm statistics of a batch, so that every layer's output is of order one and depends on the
image, is exported with Ultralytics' own exporter, and run on the same image. Boxes are compared relative to the image's
size, all other outputs relative to the largest value. A model runs in a process of its own and what comes of it is
appended to docs/exports.csv; started again, the script goes on, and does anew what has another YAML now. Runtimes that
are not installed are left for another time, or another environment (litert-torch wants an older torch).

    python scripts/release/export_parity.py [results=docs/exports.csv] [configs=yolov8-*.yaml,yolo26-lite*.yaml]
        [runtimes=...]
"""

import copy
import csv
import datetime
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from yolo_lite.bench.export import missing
from yolo_lite.bench.runtimes import RUNTIMES
from yolo_lite.files import write

ROOT = Path(__file__).resolve().parents[2]
IMGSZ = 160
TOLERANCE = 10  # times what rounding does
ROUNDING = "float64"  # the column of PyTorch in float64: what rounding does by itself
OTHER = "another image"  # the column that shows how much there is to differ
FIELDS = ("config", "digest", "runtime", "deviation", "problem", "versions", "date")
CAUSES = {  # of what differs
    ("yolov8-ghostnetv2.yaml", "litert"): "`aten.upsample_nearest2d` by a ratio that is no whole number, here 2 to 5 "
    "pixels, in the attention. litert-torch 0.10 takes the pixels' centres (0 0 1 1 1), PyTorch their corners "
    "(0 0 0 1 1). Image sizes that are multiples of 64 have no such ratio.",
}
FORMATS = {
    "onnxruntime": "ONNX",
    "openvino": "OpenVINO",
    "ncnn": "NCNN",
    "torchscript": "TorchScript",
    "litert": "LiteRT",
}


def main(results=ROOT / "docs" / "exports.csv", configs="yolov8-*.yaml,yolo26-lite*.yaml", runtimes=None):
    runtimes = runtimes.split(",") if runtimes else list(RUNTIMES)
    results = Path(results)
    results.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for pattern in configs.split(",") for path in (ROOT / "cfg").glob(pattern))
    names = [name for name in dict.fromkeys(names) if not name.endswith(("-timm.yaml", "-extradw.yaml"))]
    done = read(results)
    available = [name for name in runtimes if not missing(name)]
    for name in sorted(set(runtimes) - set(available)):
        print(f"{name} is left out: pip install {' '.join(missing(name))}", flush=True)
    with results.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if not done:
            writer.writeheader()
        for index, name in enumerate(names, 1):
            waiting = [runtime for runtime in (OTHER, ROUNDING, *available) if (name, runtime) not in done]
            for row in in_processes(name, waiting):
                row["digest"] = digest(name)
                done[name, row["runtime"]] = row
                writer.writerow(row)
                file.flush()
                deviation = row["problem"] or row["deviation"]
                print(f"{index}/{len(names)} {name} {row['runtime']}: {deviation}", flush=True)
    write_page(names, read(results))


def read(results):
    """Return what is done by config and runtime: of the YAMLs as they are, and references only that were computed."""
    rows = list(csv.DictReader(results.open())) if results.exists() else []
    return {
        (row["config"], row["runtime"]): row
        for row in rows
        if row["digest"] == digest(row["config"]) and not (row["problem"] and row["runtime"] in (OTHER, ROUNDING))
    }


def digest(name):
    """A short word for what a config's YAML says."""
    file = ROOT / "cfg" / name
    return hashlib.sha1(file.read_bytes()).hexdigest()[:8] if file.exists() else ""


def in_processes(name, runtimes):
    """Yield the rows of a model; a runtime that takes the process down is a result, the others go on in a new one."""
    left = list(runtimes)
    while left:
        command = [sys.executable, __file__, "model", name, *left]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said, errors = process.communicate()
        for line in said.splitlines():
            if line.startswith("{"):
                yield {"config": name, "runtime": left.pop(0), **json.loads(line)}
        if process.returncode and left:
            reason = f"the process ended with {process.returncode}: {(errors.strip().splitlines() or [''])[-1]}"
            yield {"config": name, "runtime": left[0], **stamp(left.pop(0)), "problem": reason[:300]}


def compare(name, runtimes):
    """Compare one model with PyTorch in each runtime; print a JSON line for each."""
    import numpy as np
    import torch

    from yolo_lite.bench.export import export, load
    from yolo_lite.errors import ConfigError

    torch.manual_seed(0)
    host, _, rest = name.partition("-")
    label = f"{host}n-{rest.removesuffix('.yaml')}"
    model = load(label, label, IMGSZ)
    network = model.yolo.model
    settle(network)
    if getattr(network, "end2end", False):
        network.end2end = False  # Ultralytics' default export has the one-to-many head
    image, other = torch.rand(2, 1, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = [each.numpy() for each in tensors(network(image))]
    for runtime in runtimes:
        row = stamp(runtime)
        try:
            if runtime in (OTHER, ROUNDING):
                exact = copy.deepcopy(network).double()
                with torch.no_grad():
                    output = exact(image.double()) if runtime == ROUNDING else network(other)
                actual = [tensors(output)[0].numpy()]  # what exports give; the rest is of the head's training
            else:
                with tempfile.TemporaryDirectory() as folder:
                    run, _ = RUNTIMES[runtime].open(export(model, runtime, folder, IMGSZ), 1, "fp32")
                    actual = [np.array(each) for each in run(image.numpy())]
            if runtime == "litert":
                in_pixels(actual[0], network.model[-1])
            row["deviation"] = f"{deviation(actual, expected):.1e}"
        except (ConfigError, ValueError, RuntimeError) as error:
            row["problem"] = " ".join(str(error).split())[:300]
        print(json.dumps(row), flush=True)


def settle(network):
    """Give a random model BatchNorm statistics and biases with which its outputs depend on the image."""
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        network.train()(torch.rand(8, 3, IMGSZ, IMGSZ))
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        head = network.model[-1]
        for branch in (
            *getattr(head, "cv2", ()),
            *getattr(head, "cv3", ()),
        ):  # random ones give boxes of one size and scores of 1e-5
            branch[-1].weight *= 3
            branch[-1].bias.zero_()
    network.eval()


def tensors(output):
    """All tensors of a model's output, in order; those of the head's training part are at the end."""
    if output is None:  # RT-DETR's, of what it needs in training only
        return []
    if isinstance(output, dict):
        output = output.values()
    return [output] if hasattr(output, "numpy") else [each for part in output for each in tensors(part)]


def deviation(actual, expected):
    """The largest difference of any output, relative to the range of its part."""
    worst = 0.0
    for output in actual:
        same = next((each for each in expected if each.shape == output.shape), None)
        if same is None:
            raise ValueError(f"an output of shape {output.shape}, PyTorch's are {[each.shape for each in expected]}")
        boxes = output.ndim == 3
        for part, scale in ((slice(0, 4), IMGSZ), (slice(4, None), None)) if boxes else ((slice(None), None),):
            worst = max(worst, abs(output[:, part] - same[:, part]).max() / (scale or abs(same[:, part]).max()))
    return worst


def in_pixels(output, head):
    """Ultralytics' LiteRT export gives boxes and keypoints in parts of the image."""
    output[:, :4] *= IMGSZ
    if hasattr(head, "kpt_shape"):
        for axis in (0, 1):
            output[:, 4 + head.nc + axis :: head.kpt_shape[1]] *= IMGSZ


def stamp(runtime):
    from importlib.metadata import version

    packages = ["ultralytics", "torch"]
    if runtime in RUNTIMES:
        packages += [
            RUNTIMES[runtime].package.replace("_", "-"),
            *(p.replace("_", "-") for p in RUNTIMES[runtime].needs),
        ]
    versions = ", ".join(f"{package} {version(package)}" for package in dict.fromkeys(packages))
    return {"deviation": "", "problem": "", "versions": versions, "date": datetime.date.today().isoformat()}


def verdict(row, rounding):
    if row is None:
        return "not run"
    if row["problem"]:
        return f"fails: {row['problem']}".replace("|", "/")
    equal = rounding and float(row["deviation"]) <= TOLERANCE * float(rounding["deviation"])
    return row["deviation"] if equal else f"**{row['deviation']}**"


def write_page(names, done):
    runtimes = [name for name in FORMATS if any((config, name) in done for config in names)]
    versions = sorted({row["versions"] for (config, runtime), row in done.items() if runtime in runtimes})
    lines = [
        "# Exports against PyTorch",
        "",
        f"Written by `scripts/release/export_parity.py`: the largest difference of any output from PyTorch's (float32, "
        f"fused, {IMGSZ} px), boxes relative to the image's size, scores relative to the largest. The first column is what "
        "PyTorch makes of another image, and shows how much there is to differ; the second is PyTorch in float64, and "
        f"shows what rounding does by itself. Up to {TOLERANCE} times that is taken as equal; more stands in bold.",
        "",
        "All formats are made by Ultralytics' own exporter with its default settings.",
        "",
        f"| config, scale n | another image | float64 | {' | '.join(FORMATS[name] for name in runtimes)} |",
        f"|{'---|' * (len(runtimes) + 3)}",
    ]
    for config in names:
        other, rounding = done.get((config, OTHER)), done.get((config, ROUNDING))
        cells = [verdict(done.get((config, runtime)), rounding) for runtime in (ROUNDING, *runtimes)]
        cells = ["not run" if other is None else f"{float(other['deviation']):.2f}", *cells]
        lines.append(f"| `{config.removesuffix('.yaml')}` | {' | '.join(cells)} |")
    lines += [""] + [
        f"- `{config.removesuffix('.yaml')}` in {FORMATS[runtime]}: {cause}"
        for (config, runtime), cause in CAUSES.items()
        if "**" in verdict(done.get((config, runtime)), done.get((config, ROUNDING)))
    ]
    lines += ["", "Versions:", "", *(f"- {each}" for each in versions), ""]
    write(ROOT / "docs" / "exports.md", "\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["model"]:
        compare(sys.argv[2], sys.argv[3:])
    else:
        main(**dict(word.split("=", 1) for word in sys.argv[1:]))
