"""Check that torch, torchvision, numpy, CUDA and the GPU are compatible, for `yolo-lite doctor`."""

import importlib.metadata
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

PYTORCH = "https://pytorch.org/get-started/locally"
PARTNERS = ("torch", "torchvision", "torchaudio")  # their metadata state which versions of each other they require
BUILT_FOR = re.compile(r"torch|torchvision|triton|cuda-toolkit|nvidia-.*")
Found = TypeVar("Found")


class Build(NamedTuple):
    """Installed packages and available GPUs."""

    version: str  # version of torch
    cuda: str = ""  # CUDA version that torch was built for, empty for a CPU build
    vision_cuda: str = ""  # CUDA version that torchvision was built for, empty for a CPU build
    kernels: tuple[str, ...] = ()  # architectures that torch has kernels for, like sm_86
    seen: dict[str, tuple[int, int]] = {}  # GPU that torch can use -> compute capability
    driver: dict[str, str] = {}  # GPU that the driver reports -> driver version
    other: str = ""  # non-CUDA accelerator that torch can use, "ROCm" or "MPS"
    unmet: tuple[str, ...] = ()  # messages about unmet version requirements between packages
    no_numpy: str = ""  # why torch cannot exchange arrays with numpy


Line = tuple[bool | None, str, str]  # passed (None: a warning), finding, advice


def check() -> list[Line]:
    """Check this environment and machine.

    Returns:
        (list[Line]): For each check: whether it passed (None for a warning), the finding, and the advice.
    """
    return judge(_look())


def judge(build: Build) -> list[Line]:
    """Return the results of the compatibility checks.

    Args:
        build: Installed packages and available GPUs.
    """
    return [_packages(build), _gpu(build)]


def _packages(build: Build) -> Line:
    if build.no_numpy:
        text = f"torch {build.version} cannot exchange arrays with numpy ({build.no_numpy})"
        return False, text, "torch before 2.4 needs an older one: pip install 'numpy<2'"
    apart = list(build.unmet)
    if build.vision_cuda.split(".")[0] != build.cuda.split(".")[0]:
        apart.append(f"torchvision is built for {_made_for(build.vision_cuda)}, torch for {_made_for(build.cuda)}")
    if apart:
        return None, "; ".join(apart), f"Install torch and torchvision together, from one place: {PYTORCH}"
    return True, "torch, torchvision, numpy and the CUDA packages are compatible", ""


def _gpu(build: Build) -> Line:
    torch = f"torch {build.version}, built for {_made_for(build.cuda)}"
    if build.other:
        return True, f"{torch}, can use {build.other}", ""
    for name, capability in build.seen.items():
        if not _has_kernels(build.kernels, capability):
            needs = "sm_{}{}".format(*capability)
            return None, f"{torch}, has no kernels for the GPU {name} ({needs})", f"Install a torch for it: {PYTORCH}"
    if build.seen:
        return True, f"{torch}, can use {', '.join(build.seen)}", ""
    if not build.driver:
        return True, f"{torch}; no GPU found, the CPU is used", ""
    text = f"{torch}, cannot use the GPU {', '.join(build.driver)}"
    if not build.cuda:
        return None, text, f"Install torch and torchvision for CUDA: {PYTORCH}"
    driver = next(iter(build.driver.values()))
    return None, text, f"Is the driver ({driver}) too old for CUDA {build.cuda}, or CUDA_VISIBLE_DEVICES empty?"


def _made_for(cuda: str) -> str:
    return f"CUDA {cuda}" if cuda else "the CPU only"


def _has_kernels(kernels: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Return whether a GPU can run one of the kernels: same generation and not newer, or PTX of any older one."""
    for kernel in kernels:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", kernel)
        if found:
            kind, made_for = found[1], (int(found[2]), int(found[3]))
            if made_for <= capability and (kind == "compute" or made_for[0] == capability[0]):
                return True
    return not kernels  # unknown architectures are assumed to fit


def _look() -> Build:
    import torch

    has_gpu = torch.cuda.is_available()
    names = [f"{torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())] if has_gpu else []
    other = "ROCm" if torch.version.hip and has_gpu else "MPS" if torch.backends.mps.is_available() else ""
    cuda = torch.version.cuda or ""
    return Build(
        version=torch.__version__,
        cuda=cuda,
        vision_cuda=_torchvision_cuda(cuda),
        kernels=tuple(torch.cuda.get_arch_list()) if has_gpu else (),
        seen={name: torch.cuda.get_device_capability(i) for i, name in enumerate(names)},
        driver=_driver(),
        other=other,
        unmet=tuple(_unmet()),
        no_numpy=_why_no_numpy(),
    )


def _torchvision_cuda(cuda: str) -> str:
    """Return the CUDA version that torchvision's operators were built for; torch's version if it is unknown."""
    import torch

    try:
        import torchvision  # noqa: F401

        number = torch.ops.torchvision._cuda_version()
    except Exception as error:  # torchvision's own CUDA check failed, or it was built for another torch
        found = re.search(r"torchvision has CUDA Version=([\d.]+)", str(error))
        return found[1] if found else cuda
    return f"{number // 1000}.{number % 1000 // 10}" if number > 0 else ""


def _driver() -> dict[str, str]:
    """Return the NVIDIA GPUs that the driver reports, whether torch can use them or not, with the driver version."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.rsplit(", ", 1) for line in lines if ", " in line)


def _unmet() -> Iterator[str]:
    """Yield the unmet requirements of torch and its partner packages on each other and on CUDA packages."""
    from packaging.requirements import Requirement

    for name in PARTNERS:
        for requirement in map(Requirement, _metadata(importlib.metadata.requires, name) or ()):
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            found = _metadata(importlib.metadata.version, requirement.name)
            if not (found and applies and BUILT_FOR.fullmatch(requirement.name)):
                continue
            if not requirement.specifier.contains(found, prereleases=True):
                own = importlib.metadata.version(name)
                yield f"{name} {own} needs {requirement.name}{requirement.specifier}, found {found}"


def _metadata(read: Callable[[str], Found], name: str) -> Found | None:
    try:
        return read(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _why_no_numpy() -> str:
    import numpy
    import torch

    try:
        torch.from_numpy(numpy.zeros(1))
    except RuntimeError as error:  # torch was compiled for numpy 1
        return f"{numpy.__version__}: {error}"
    return ""
