"""What compilers of edge devices make of a model, where pip has the compiler: no device is needed.

A new one is a function and a row, as in runtimes.py. A compiler's cycles are its own estimate, never a measurement.
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

CALIBRATED = 16  # images, where the compiler makes int8: where operators run does not depend on them


class Operator(NamedTuple):
    """One operator of the compiled file."""

    name: str
    on_npu: bool
    cycles: int  # on the NPU; 0 on the CPU, which compilers do not look at


@dataclass(frozen=True)
class Verdict:
    """What a compiler says of a model.

    Attributes:
        compiler: The package and its version.
        target: The device that it compiled for, and what it assumes of it.
        operators: In the order of execution.
        milliseconds: Its estimate for an image, the NPU's operators only; None where it gives none.
        memory: What it needs in each kind of memory, KiB.
    """

    compiler: str
    target: str
    operators: Sequence[Operator]
    milliseconds: float | None
    memory: dict[str, float]

    def cycles(self, name: str | None = None) -> int:
        """Sum the cycles of the operators of a name, or of all."""
        return sum(each.cycles for each in self.operators if name in (None, each.name))


class Compiler(NamedTuple):
    """One compiler.

    `compile` takes the exported file, the device, a folder to work in, and the dataset that calibrates int8.
    """

    package: str
    pip: str  # what to install, with the versions that go together
    module: str
    runtime: str  # whose export it reads
    quantises: bool  # whether that export is in float, and the compiler makes int8 of it
    devices: Sequence[str]  # the first is taken for the name alone
    compile: Callable[[Path, str, Path, str], Verdict]


def compiler_of(device: str) -> tuple[Compiler, str]:
    """Find the compiler for a device, and the device's full name.

    Raises:
        ConfigError: There is none, or its package is not installed.
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
    """Export a model to int8, compile it for a device, and read what the compiler says of it.

    Args:
        model: A name, YAML or checkpoint, or a file of the format that the compiler reads.
        device: A name in `COMPILERS`, or one of its devices.
        imgsz: Height and width of the image, pixels.
        data: The YAML of the dataset that calibrates int8. Where an operator runs does not depend on it.
        out: The folder in which the export is kept; nothing is kept without it.

    Raises:
        ConfigError: There is no such compiler, it or the exporter is not installed, or one of them fails.
    """
    compiler, device = compiler_of(device)
    subject = load(str(model), model, imgsz)
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as work:
        if not isinstance(subject, Exported):
            check_runtimes([compiler.runtime])
        file = export(subject, compiler.runtime, out or work, imgsz, None if compiler.quantises else data)
        return compiler.compile(file, device, Path(work), data)


def _vela(file: Path, device: str, work: Path, data: str) -> Verdict:
    """Arm's compiler for the Ethos-U NPUs: https://pypi.org/project/ethos-u-vela."""
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
    """Rockchip's compiler, whose log has a line for each operator: https://pypi.org/project/rknn-toolkit2."""
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
