"""Compile models with the edge device compilers that pip can install, and read their reports; needs no device.

To add a compiler, add a function and a row in `COMPILERS`, as in runtimes.py. Cycles are the compiler's own estimate,
never a measurement.
"""

import csv
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yolo_lite.bench.export import Exported, export, load
from yolo_lite.bench.runtimes import check_runtimes
from yolo_lite.datasets.images import training_files
from yolo_lite.errors import ConfigError, one_line, suggest

CALIBRATED = 16  # calibration images if the compiler quantises; the placement of operators does not depend on them


class Operator(NamedTuple):
    """Operator of a compiled file."""

    name: str
    on_npu: bool
    cycles: int  # cycles on the NPU; 0 on the CPU, which compilers do not estimate


@dataclass(frozen=True)
class Verdict:
    """Report of a compiler about a model.

    Attributes:
        compiler: Compiler package and version.
        target: Target device, with the configuration that the compiler assumes.
        operators: Operators in the order of execution.
        milliseconds: Estimated latency per image of the operators on the NPU; None if the compiler gives no estimate.
        memory: Memory use by kind of memory, KiB.
    """

    compiler: str
    target: str
    operators: Sequence[Operator]
    milliseconds: float | None
    memory: dict[str, float]

    def cycles(self, name: str | None = None) -> int:
        """Return the total cycles of the operators with a name, or of all operators."""
        return sum(each.cycles for each in self.operators if name in (None, each.name))


class Compiler(NamedTuple):
    """Compiler of an edge device family.

    `compile` takes the exported file, the device, a working folder, and the dataset for int8 calibration.
    """

    package: str
    pip: str  # arguments of `pip install`, with compatible versions
    module: str
    runtime: str  # name in `RUNTIMES` whose export the compiler reads
    quantises: bool  # whether the compiler reads a float export and quantises it to int8 itself
    devices: Sequence[str]  # the first is the default of the device family
    compile: Callable[[Path, str, Path, str], Verdict]


def compiler_of(device: str) -> tuple[Compiler, str]:
    """Return the compiler for a device or device family, and the full name of the device.

    Raises:
        ConfigError: There is no compiler for the device, or its package is not installed.
    """
    for family, compiler in COMPILERS.items():
        if device == family or device in compiler.devices:
            if importlib.util.find_spec(compiler.module.partition(".")[0]) is None:
                raise ConfigError(f"device={device} needs {compiler.package}: pip install {compiler.pip}")
            return compiler, compiler.devices[0] if device == family else device
    known = [*COMPILERS, *(device for compiler in COMPILERS.values() for device in compiler.devices)]
    raise ConfigError(f"device={device}: no compiler for it is supported{suggest(device, known)}")


def verdict(
    model: str | Path, device: str, imgsz: int = 640, data: str = "shapes.yaml", out: str | None = None
) -> Verdict:
    """Export a model, compile it for a device in int8, and return the compiler's report.

    Args:
        model: Name, YAML or checkpoint of a model, or a file in the format that the compiler reads.
        device: Name in `COMPILERS`, or one of the compiler's devices.
        imgsz: Height and width of the image, pixels.
        data: Dataset YAML for int8 calibration. The placement of operators does not depend on it.
        out: Folder in which to keep the export; None to discard it.

    Raises:
        ConfigError: There is no compiler for the device, compiler or exporter are not installed, or one of them fails.
    """
    compiler, device = compiler_of(device)
    subject = load(str(model), model, imgsz)
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as work:
        if not isinstance(subject, Exported):
            check_runtimes([compiler.runtime])
        file = export(subject, compiler.runtime, out or work, imgsz, None if compiler.quantises else data)
        return compiler.compile(file, device, Path(work), data)


def _vela(file: Path, device: str, work: Path, data: str) -> Verdict:
    """Run Arm's compiler for the Ethos-U NPUs: https://pypi.org/project/ethos-u-vela."""
    out = work / "vela"
    words = [str(file), "--accelerator-config", device, "--output-dir", str(out), "--verbose-performance"]
    process = subprocess.run([sys.executable, "-m", "ethosu.vela", *words], capture_output=True, text=True)
    layers, summary = (next(out.glob(pattern), None) for pattern in ("*_per-layer.csv", "*_summary_*.csv"))
    if process.returncode or layers is None or summary is None:
        raise _failure(file, device, process.stderr.strip() or process.stdout)
    rows, (whole,) = _read(layers), _read(summary)
    return Verdict(
        f"ethos-u-vela {importlib.metadata.version('ethos-u-vela')}",
        f"{device} at {float(whole['core_clock']) / 1e6:.0f} MHz, {whole['memory_mode']}",
        [Operator(row["Original Operator"], row["Target"] == "NPU", int(float(row["Op Cycles"]))) for row in rows],
        1e3 * float(whole["inference_time"]),
        {kind: float(whole[f"{kind.lower()}_memory_used"]) for kind in ("SRAM", "DRAM")},
    )


_RKNN = """
import sys
from rknn.api import RKNN
file, device, images = sys.argv[1:]
rknn = RKNN(verbose=True)
rknn.config(target_platform=device, mean_values=[[0, 0, 0]], std_values=[[255, 255, 255]])
sys.exit(bool(rknn.load_onnx(model=file) or rknn.build(do_quantization=True, dataset=images)))
"""
_RKNN_ROW = re.compile(r"RKNN: \[\S+\] +\d+ +(\w+) +\S+ +(CPU|NPU|GPU) .* \d+/\d+/(\d+) ")
_RKNN_MEMORY = re.compile(r"Total (Internal|Weight) Memory Size: ([\d.]+)KB")


def _rknn(file: Path, device: str, work: Path, data: str) -> Verdict:
    """Run Rockchip's compiler and parse the operators in its log: https://pypi.org/project/rknn-toolkit2."""
    images = work / "images.txt"
    images.write_text("".join(f"{each}\n" for each in training_files(data)[:CALIBRATED]), "utf-8")
    words = [sys.executable, "-c", _RKNN, str(file.absolute()), device, str(images)]
    process = subprocess.run(words, capture_output=True, text=True, cwd=work)
    said = process.stdout + process.stderr
    rows = _RKNN_ROW.findall(said)
    if process.returncode or not rows:
        raise _failure(
            file, device, "\n".join(re.findall(r"^\w*(?:Error|Exception): (?!Traceback).*", said, re.M)) or said
        )
    return Verdict(
        f"rknn-toolkit2 {importlib.metadata.version('rknn-toolkit2')}",
        device,
        [Operator(name, where == "NPU", int(cycles)) for name, where, cycles in rows],
        None,
        {kind.lower(): float(size) for kind, size in _RKNN_MEMORY.findall(said)},
    )


def _failure(file: Path, device: str, said: str) -> ConfigError:
    last = (said.strip() or "nothing").splitlines()[-1]
    return ConfigError(f"{file.name} cannot be compiled for {device}; the compiler says: {one_line(last)}")


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


COMPILERS = {
    "ethos-u": Compiler(
        "ethos-u-vela",
        "ethos-u-vela",
        "ethosu.vela",
        "litert",
        quantises=False,
        devices=("ethos-u55-256", "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u65-256", "ethos-u65-512",
         "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048"),
        compile=_vela,
    ),
    "rknn": Compiler(
        "rknn-toolkit2",
        "'rknn-toolkit2<2.5' 'setuptools<82' 'torchvision<0.20' onnxslim",
        "rknn.api",
        "onnxruntime",
        quantises=True,
        devices=("rk3588", "rk3562", "rk3566", "rk3568", "rk3576", "rk2118",
         "rv1103", "rv1103b", "rv1106", "rv1106b", "rv1126b"),
        compile=_rknn,
    ),
}  # fmt: skip
