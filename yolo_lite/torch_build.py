"""Do torch, torchvision, numpy, CUDA and the GPU belong together? What `yolo-lite doctor` says of them."""

import importlib.metadata
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

PYTORCH = "https://pytorch.org/get-started/locally"
PARTNERS = ("torch", "torchvision", "torchaudio")  # their metadata say which of the others they were built for
BUILT_FOR = re.compile(r"torch|torchvision|triton|cuda-toolkit|nvidia-.*")
Found = TypeVar("Found")


class Build(NamedTuple):
    """What is installed, and what there is to run it on."""

    version: str  # torch's
    cuda: str = ""  # the CUDA that torch was built for, empty for none
    vision_cuda: str = ""  # the same of torchvision
    kernels: tuple[str, ...] = ()  # the architectures that torch has kernels for, like sm_86
    seen: dict[str, tuple[int, int]] = {}  # GPU that torch can use -> its compute capability
    driver: dict[str, str] = {}  # GPU that the driver knows -> the driver's version
    other: str = ""  # an accelerator of another make that torch can use, "ROCm" or "MPS"
    unmet: tuple[str, ...] = ()  # sentences: a package that needs another version of another one
    no_numpy: str = ""  # why torch cannot exchange arrays with numpy


Line = tuple[bool | None, str, str]  # good (None: a warning), what was found, what to do


def check() -> list[Line]:
    """Look at this environment and machine.

    Returns:
        (list[Line]): Of each matter: is it good (None for a warning), what was found, and what to do.
    """
    return judge(_look())


def judge(build: Build) -> list[Line]:
    """Say what belongs together and what does not.

    Args:
        build: What is installed, and the GPUs.
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
    """Tell whether a GPU runs one of the kernels: of its own generation and no newer, or to be compiled for it."""
    for kernel in kernels:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", kernel)
        if found:
            kind, made_for = found[1], (int(found[2]), int(found[3]))
            if made_for <= capability and (kind == "compute" or made_for[0] == capability[0]):
                return True
    return not kernels  # not known


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
    """Return the CUDA that torchvision's operators were built for; torch's where it does not say."""
    import torch

    try:
        import torchvision  # noqa: F401

        number = torch.ops.torchvision._cuda_version()
    except Exception as error:  # its own check of the same, or built for another torch: in its words
        found = re.search(r"torchvision has CUDA Version=([\d.]+)", str(error))
        return found[1] if found else cuda
    return f"{number // 1000}.{number % 1000 // 10}" if number > 0 else ""


def _driver() -> dict[str, str]:
    """Return the NVIDIA GPUs that the driver knows, whether torch sees them or not."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.rsplit(", ", 1) for line in lines if ", " in line)


def _unmet() -> Iterator[str]:
    """Yield what the metadata of torch and its partners ask of one another, and of CUDA's packages, in vain."""
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
    except RuntimeError as error:  # a torch that was compiled for numpy 1
        return f"{numpy.__version__}: {error}"
    return ""
