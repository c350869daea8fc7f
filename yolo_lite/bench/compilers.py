"""What compilers of edge devices make of a model, where pip has the compiler: no device is needed.

A new one is a function and a row, as in runtimes.py. A compiler's cycles are its own estimate, never a measurement.
"""

import csv
import importlib.metadata
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yolo_lite.bench.export import export, load
from yolo_lite.errors import ConfigError, one_line, suggest


class Operator(NamedTuple):
    """One operator of the compiled file."""

    name: str
    on_npu: bool
    cycles: int  # on the NPU; 0 on the CPU, which the compiler does not look at


@dataclass(frozen=True)
class Verdict:
    """What a compiler says of a model.

    Attributes:
        compiler: The package and its version.
        target: The device that it compiled for, and what it assumes of it.
        operators: In the order of execution.
        milliseconds: Its estimate for an image, the NPU's operators only.
        memory: What it needs in each kind of memory, KiB.
    """

    compiler: str
    target: str
    operators: Sequence[Operator]
    milliseconds: float
    memory: dict[str, float]

    def cycles(self, name: str | None = None) -> int:
        """Sum the cycles of the operators of a name, or of all."""
        return sum(each.cycles for each in self.operators if name in (None, each.name))


class Compiler(NamedTuple):
    """One compiler.

    `compile` takes the exported file, the device and a folder to work in.
    """

    package: str
    module: str
    runtime: str  # whose export it reads
    devices: Sequence[str]  # the first is taken for the name alone
    compile: Callable[[Path, str, Path], Verdict]


def compiler_of(device: str) -> tuple[Compiler, str]:
    """Find the compiler for a device, and the device's full name.

    Raises:
        ConfigError: There is none, or its package is not installed.
    """
    for family, compiler in COMPILERS.items():
        if device == family or device in compiler.devices:
            if importlib.util.find_spec(compiler.module.partition(".")[0]) is None:
                raise ConfigError(f"device={device} needs {compiler.package}: pip install {compiler.package}")
            return compiler, compiler.devices[0] if device == family else device
    known = [*COMPILERS, *(device for compiler in COMPILERS.values() for device in compiler.devices)]
    raise ConfigError(f"device={device}: there is no compiler for it here{suggest(device, known)}")


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
    from yolo_lite.bench.runtimes import check_runtimes

    compiler, device = compiler_of(device)
    subject = load(str(model), model, imgsz)
    with tempfile.TemporaryDirectory(prefix="yolo_lite_") as work:
        if not hasattr(subject, "path"):
            check_runtimes([compiler.runtime])
        file = export(subject, compiler.runtime, out or work, imgsz, data)
        return compiler.compile(file, device, Path(work))


def _vela(file: Path, device: str, work: Path) -> Verdict:
    """Arm's compiler for the Ethos-U NPUs: https://pypi.org/project/ethos-u-vela."""
    out = work / "vela"
    words = [str(file), "--accelerator-config", device, "--output-dir", str(out), "--verbose-performance"]
    process = subprocess.run([sys.executable, "-m", "ethosu.vela", *words], capture_output=True, text=True)
    layers, summary = (next(out.glob(pattern), None) for pattern in ("*_per-layer.csv", "*_summary_*.csv"))
    if process.returncode or layers is None or summary is None:
        said = (process.stderr.strip() or process.stdout.strip() or "nothing").splitlines()[-1]
        raise ConfigError(f"{file.name} cannot be compiled for {device}; the compiler says: {one_line(said)}")
    rows, (whole,) = _read(layers), _read(summary)
    return Verdict(
        f"ethos-u-vela {importlib.metadata.version('ethos-u-vela')}",
        f"{device} at {float(whole['core_clock']) / 1e6:.0f} MHz, {whole['memory_mode']}",
        [Operator(row["Original Operator"], row["Target"] == "NPU", int(float(row["Op Cycles"]))) for row in rows],
        1e3 * float(whole["inference_time"]),
        {kind: float(whole[f"{kind.lower()}_memory_used"]) for kind in ("SRAM", "DRAM")},
    )


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as text:
        return list(csv.DictReader(text))


COMPILERS = {
    "ethos-u": Compiler(
        "ethos-u-vela",
        "ethosu.vela",
        "litert",
        ("ethos-u55-256", "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u65-256", "ethos-u65-512",
         "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048"),
        _vela,
    ),
}  # fmt: skip
