"""Verdicts of `yolo-lite doctor` on torch, torchvision, numpy, CUDA and the GPU, with made-up versions."""

import importlib.metadata

import pytest

from yolo_lite import torch_build
from yolo_lite.commands import doctor
from yolo_lite.torch_build import Build

pytestmark = pytest.mark.core
RTX = {"NVIDIA GeForce RTX 3060": (8, 6)}
DRIVER = {"NVIDIA GeForce RTX 3060": "525.60"}
KERNELS = ("sm_75", "sm_80", "sm_90")
CUDA = Build("2.7.1+cu126", cuda="12.6", vision_cuda="12.6", kernels=KERNELS, seen=RTX, driver=DRIVER)
CPU = Build("2.7.1+cpu")
CASES = {
    "a GPU, and torch for it": (CUDA, True, True, "built for CUDA 12.6, can use NVIDIA GeForce RTX 3060"),
    "no GPU": (CPU, True, True, "built for the CPU only; no GPU found"),
    "no GPU, torch for one": (CUDA._replace(seen={}, driver={}), True, True, "built for CUDA 12.6; no GPU found"),
    "a GPU, torch for the CPU": (CPU._replace(driver=DRIVER), True, None, "the CPU only, cannot use the GPU NVIDIA"),
    "an old driver": (CUDA._replace(seen={}), True, None, "Is the driver (525.60) too old for CUDA 12.6"),
    "an old GPU": (CUDA._replace(seen={"GTX 1080": (6, 1)}), True, None, "no kernels for the GPU GTX 1080 (sm_61)"),
    "a newer GPU of the same generation": (CUDA._replace(seen={"Orin": (8, 7)}), True, True, "can use Orin"),
    "a GPU newer than torch": (CUDA._replace(seen={"B200": (10, 0)}), True, None, "the GPU B200 (sm_100)"),
    "compiled for it when first used": (
        CUDA._replace(seen={"B200": (10, 0)}, kernels=("sm_80", "compute_90")), True, True, "can use B200"
    ),
    "another make": (CPU._replace(other="MPS"), True, True, "can use MPS"),
    "torchvision for the CPU": (CUDA._replace(vision_cuda=""), None, True, "built for the CPU only, torch for"),
    "torchvision for another CUDA": (CUDA._replace(vision_cuda="13.0"), None, True, "is built for CUDA 13.0"),
    "torchvision for a near CUDA": (CUDA._replace(vision_cuda="12.4"), True, True, "are compatible"),
    "versions apart": (CUDA._replace(unmet=("torchaudio needs torch==2.7.1",)), None, True, "needs torch==2.7.1"),
    "numpy too new": (CPU._replace(no_numpy="2.2.6: Numpy is not available"), False, True, "pip install 'numpy<2'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_torch_and_what_belongs_to_it(name):
    build, packages, gpu, words = CASES[name]
    lines = torch_build.judge(build)
    assert [good for good, _, _ in lines] == [packages, gpu]
    assert words in " ".join(text for line in lines for text in line[1:])
    assert all((good is True) == (not advice) for good, _, advice in lines)


def test_metadata_that_contradict_each_other(monkeypatch):
    """The environment that a replaced torch leaves behind, as the packages' own metadata tell it."""
    versions = {"torch": "2.15.0", "torchvision": "0.22.1", "torchaudio": "2.7.1", "nvidia-cudnn-cu13": "9.1"}
    needs = {
        "torch": ["nvidia-cudnn-cu13==9.26.0.51", "triton==3.9.0", "sympy<1", 'nvidia-cudnn-cu13<1; extra == "x"'],
        "torchvision": ["torch==2.7.1", "numpy<1"],
        "torchaudio": ["torch==2.7.1"],
    }

    def look_up(table):
        def read(name):
            if name not in table:
                raise importlib.metadata.PackageNotFoundError(name)
            return table[name]

        return read

    monkeypatch.setattr(importlib.metadata, "version", look_up(versions))
    monkeypatch.setattr(importlib.metadata, "requires", look_up(needs))
    assert list(torch_build._unmet()) == [
        "torch 2.15.0 needs nvidia-cudnn-cu13==9.26.0.51, found 9.1",
        "torchvision 0.22.1 needs torch==2.7.1, found 2.15.0",
        "torchaudio 2.7.1 needs torch==2.7.1, found 2.15.0",
    ]
    versions.update(torch="2.7.1+cu126", **{"nvidia-cudnn-cu13": "9.26.0.51"})  # a local version label is ignored
    assert not list(torch_build._unmet())


def test_a_warning_is_not_a_failure(monkeypatch, capsys):
    for build, healthy in ((CUDA._replace(vision_cuda=""), True), (CPU._replace(no_numpy="2.2.6"), False)):
        monkeypatch.setattr(torch_build, "_look", lambda build=build: build)
        for other in ("_startup_file", "_active"):
            monkeypatch.setattr(doctor, other, lambda: (True, "", ""))
        assert doctor.run() is healthy
        assert ("warn  torchvision is built" if healthy else "FAIL  torch 2.7.1+cpu cannot") in capsys.readouterr().out
