"""Compare exports with PyTorch: every native family and preset at scale n, in every runtime.

Writes docs/exports.csv and docs/exports.md.

Each model gets the BatchNorm statistics of a batch, so that every layer's output is of order one and depends on the
image; it is exported with Ultralytics' own exporter and run on the same image. Boxes are compared relative to the image
size, all other outputs relative to the largest value. Each model runs in its own process, and its results are appended
to docs/exports.csv. When restarted, the script resumes, and repeats models whose YAML has changed. Runtimes that are
not installed are skipped; run them later or in another environment (litert-torch requires an older torch).

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

import yaml

from yolo_lite import environment
from yolo_lite.bench.parity import TOLERANCE, arrays, deviation, settle
from yolo_lite.bench.runtimes import RUNTIMES, missing
from yolo_lite.errors import ConfigError, one_line
from yolo_lite.files import write

ROOT = Path(__file__).resolve().parents[2]
IMGSZ = 160
ROUNDING = "float64"  # column of PyTorch in float64: the effect of rounding alone
OTHER = "another image"  # column of PyTorch on another image: the scale for the differences
FIELDS = ("config", "digest", "runtime", "deviation", "problem", "versions", "date")
CAUSES = {  # (config, runtime) -> cause of the difference
    ("yolov8-ghostnetv2.yaml", "litert"): "`aten.upsample_nearest2d` by a non-integer ratio, here 2 to 5 "
    "pixels, in the attention. litert-torch 0.10 takes the pixels' centres (0 0 1 1 1), PyTorch their corners "
    "(0 0 0 1 1). Image sizes that are multiples of 64 have no such ratio.",
    ("yolov8-unireplknet.yaml", "mnn"): "`aten.gelu`, which MNN 3.6 computes by the approximation with tanh, 5e-4 off "
    "at most. Against PyTorch with that approximation the difference is 3.1e-05.",
}
FORMATS = {
    "onnxruntime": "ONNX",
    "openvino": "OpenVINO",
    "ncnn": "NCNN",
    "torchscript": "TorchScript",
    "litert": "LiteRT",
    "mnn": "MNN",
    "executorch": "ExecuTorch",
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
    """Return the rows by config and runtime, without rows of changed YAMLs and references that failed."""
    rows = list(csv.DictReader(results.open())) if results.exists() else []
    return {
        (row["config"], row["runtime"]): row
        for row in rows
        if row["digest"] == digest(row["config"]) and not (row["problem"] and row["runtime"] in (OTHER, ROUNDING))
    }


def digest(name):
    """Return a short hash of the content of a config's YAML, "" if there is no such file."""
    file = ROOT / "cfg" / name
    if not file.exists():
        return ""
    content = json.dumps(yaml.safe_load(file.read_text("utf-8")), sort_keys=True)  # comments do not affect exports
    return hashlib.sha1(content.encode()).hexdigest()[:8]


def in_processes(name, runtimes):
    """Yield a model's rows; a runtime that crashes its process is recorded, and the rest continue in a new process."""
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

    from yolo_lite import models
    from yolo_lite.bench.export import export

    torch.manual_seed(0)
    model = models.load(name.replace("-", "n-", 1), IMGSZ)
    network = model.yolo.model
    settle(network, IMGSZ)
    if getattr(network, "end2end", False):
        network.end2end = False  # Ultralytics' default export has the one-to-many head
    image, other = torch.rand(2, 1, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = arrays(network(image))
    for runtime in runtimes:
        row = stamp(runtime)
        try:
            if runtime in (OTHER, ROUNDING):
                exact = copy.deepcopy(network).double()
                with torch.no_grad():
                    output = exact(image.double()) if runtime == ROUNDING else network(other)
                actual = arrays(output)[:1]  # the output that exports have; the others are for training
            else:
                with tempfile.TemporaryDirectory() as folder:
                    run, _ = RUNTIMES[runtime].open(export(model, runtime, folder, IMGSZ), 1, "fp32")
                    actual = [np.array(each) for each in run(image.numpy())]
            if runtime == "litert":
                in_pixels(actual[0], network.model[-1])
            row["deviation"] = f"{deviation(actual, expected, IMGSZ):.1e}"
        except (ConfigError, ValueError, RuntimeError) as error:
            row["problem"] = one_line(error)
        print(json.dumps(row), flush=True)


def in_pixels(output, head):
    """Scale boxes and keypoints to pixels in place; Ultralytics' LiteRT export normalises them to the image size."""
    output[:, :4] *= IMGSZ
    if hasattr(head, "kpt_shape"):
        for axis in (0, 1):
            output[:, 4 + head.nc + axis :: head.kpt_shape[1]] *= IMGSZ


def stamp(runtime):
    packages = ["ultralytics", "torch"]
    if runtime in RUNTIMES:
        packages += [each.replace("_", "-") for each in (RUNTIMES[runtime].package, *RUNTIMES[runtime].needs)]
    found = environment.versions(packages)
    versions = ", ".join(f"{package} {found[package]}" for package in dict.fromkeys(packages))
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
        "Written by `scripts/release/export_parity.py`: the largest difference of any output from PyTorch's (float32, "
        f"fused, {IMGSZ} px), boxes relative to the image size, scores relative to the largest. The first column is "
        "PyTorch on another image, for scale; the second is PyTorch in float64, which shows the effect of rounding "
        f"alone. Up to {TOLERANCE} times that counts as equal; larger differences are in bold.",
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
