"""Runtimes: requirements of each one, and how it opens and runs an exported model.

To add a runtime, add a function and a row in `RUNTIMES`.
"""

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from yolo_lite import environment as machine
from yolo_lite.errors import ConfigError, suggest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIP = {
    "pnnx": "pnnx==20260526",
    "ai_edge_litert": "ai-edge-litert",
    "litert_torch": "litert-torch",
}  # module name -> pip package
Array: TypeAlias = "NDArray[np.float32]"
Run = Callable[["Array"], list["Array"]]  # batch (B, 3, height, width), 0 to 1 -> outputs
Shape = Sequence[int | str | None]  # input shape; entries other than int are dynamic


@dataclass(frozen=True)
class Runtime:
    """Deployment runtime.

    Attributes:
        package: Module name of the runtime.
        format: Ultralytics' name of the export format.
        suffixes: Suffixes of the files and folders that the runtime opens, starting with its own format.
        open: Function (path, threads, precision) -> (function that runs a batch, input shape).
        needs: Modules that the export additionally needs.
        int8: Who quantises to int8, Ultralytics' exporter or yolo_lite; None if int8 is not supported.
        int8_needs: Modules that the quantisation additionally needs.
        alone: Whether to install the runtime in a separate environment, because of its requirements on other packages.
        chooses_bf16: Function that returns whether the runtime would use bf16 on this CPU by default.
    """

    package: str
    format: str
    suffixes: tuple[str, ...]
    open: Callable[[Path, int, str], tuple[Run, Shape]]
    needs: tuple[str, ...] = ()
    int8: Literal["Ultralytics", "yolo_lite"] | None = None
    int8_needs: tuple[str, ...] = ()
    alone: bool = False
    chooses_bf16: Callable[[], bool] = bool  # returns False


def missing(name: str, int8: bool = False) -> list[str]:
    """Return the pip names of packages that a runtime or the export to it needs and that are not installed."""
    runtime = RUNTIMES[name]
    needed = [runtime.package, *runtime.needs, *(runtime.int8_needs if int8 else ())]
    return [PIP.get(package, package) for package in needed if importlib.util.find_spec(package) is None]


def check_runtimes(names: Iterable[str], int8: bool = False) -> None:
    """Refuse runtimes that do not exist or whose packages are not installed.

    Raises:
        ConfigError: A runtime is unknown, or a package is missing.
    """
    for name in names:
        if name not in RUNTIMES:
            raise ConfigError(f"unknown runtime {name!r}{suggest(name, RUNTIMES)}")
        lacking = missing(name, int8)
        if lacking:
            where = ", in an environment of its own" if RUNTIMES[name].alone else ""
            raise ConfigError(f"the runtime {name} needs {', '.join(lacking)}: pip install {' '.join(lacking)}{where}")


def is_exported(name: str | Path) -> bool:
    """Return whether a name is that of an exported file or folder, by its suffix."""
    return str(name).rstrip("/").endswith(tuple(suffix for runtime in RUNTIMES.values() for suffix in runtime.suffixes))


def environment(names: Iterable[str]) -> dict[str, str]:
    """Return the environment that latencies in some runtimes depend on: machine and package versions."""
    packages = [RUNTIMES[name].package.replace("_", "-") for name in names]
    return machine.in_words(("ultralytics", "torch", *packages, "onnxslim"))


def _onnxruntime(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # otherwise its threads would keep spinning after a run and slow down the next model
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    return lambda x: list(session.run(None, {image.name: x})), image.shape


def _openvino(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    import openvino

    file = _only(path, "*.xml") if path.is_dir() else path
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # operators that are not quantised also run in fp32 in an int8 model
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    model = core.compile_model(core.read_model(str(file)), "CPU", settings)
    request = model.create_infer_request()

    def run(x: "Array") -> "list[Array]":
        request.infer([x], share_inputs=True)
        return [request.get_output_tensor(i).data for i in range(len(model.outputs))]

    return run, [size.get_length() if size.is_static else None for size in model.inputs[0].partial_shape]


def _openvino_chooses_bf16() -> bool:
    """Return whether OpenVINO would use bf16 on this CPU, as it does with AMX."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _ncnn(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    import ncnn
    import yaml

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        if hasattr(net.opt, f"use_{name}"):
            setattr(net.opt, f"use_{name}", False)
    if net.load_param(str(_only(path, "*.param"))) or net.load_model(str(_only(path, "*.bin"))):
        raise RuntimeError("ncnn cannot load it")
    inputs, outputs = net.input_names(), sorted(net.output_names())

    def run(x: "Array") -> "list[Array]":
        with net.create_extractor() as extractor:
            extractor.input(inputs[0], ncnn.Mat(x[0]))
            return [extractor.extract(name)[1].numpy()[None] for name in outputs]

    size = yaml.safe_load(_only(path, "metadata.yaml").read_text("utf-8"))["imgsz"]  # the model does not contain it
    return run, [1, 3, *size]


def _torchscript(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    import torch

    torch.set_num_threads(threads)
    files = {"config.txt": ""}  # Ultralytics' metadata of the model
    model = torch.jit.load(str(path), map_location="cpu", _extra_files=files).eval()

    def run(x: "Array") -> "list[Array]":
        with torch.inference_mode():
            outputs = model(torch.from_numpy(x))
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return [each.numpy() for each in outputs if isinstance(each, torch.Tensor)]

    size = json.loads(files["config.txt"])["imgsz"] if files["config.txt"] else [None, None]
    return run, [1, 3, *size]


def _litert(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (image, *_), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shape = [int(size) for size in image["shape"]]
    last = shape[-1] in (1, 3) and shape[1] not in (1, 3)  # channels

    def run(x: "Array") -> "list[Array]":
        interpreter.set_tensor(image["index"], x.transpose(0, 2, 3, 1) if last else x)
        interpreter.invoke()
        return [interpreter.get_tensor(each["index"]) for each in outputs]

    return run, [shape[0], shape[3], *shape[1:3]] if last else shape


def _mnn(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    import MNN
    import numpy as np

    settings = {"backend": "CPU", "precision": "high", "numThread": threads}  # high is fp32, low is fp16 or bf16
    manager = MNN.nn.create_runtime_manager((settings,))
    net = MNN.nn.load_module_from_file(str(path), [], [], runtime_manager=manager, rearrange=True)

    def run(x: "Array") -> "list[Array]":
        x = np.ascontiguousarray(x)
        return [each.read().copy() for each in net.onForward([MNN.expr.const(x.ctypes.data, list(x.shape))])]

    size = json.loads(net.get_info().get("bizCode") or "{}").get("imgsz", [None, None])  # written by Ultralytics
    return run, [1, 3, *size]


def _executorch(path: Path, threads: int, precision: str) -> tuple[Run, Shape]:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime as Executor

    if portable_lib._threadpool_get_thread_count() != threads:  # models opened earlier already use the pool
        portable_lib._unsafe_reset_threadpool(threads)
    method = Executor.get().load_program(_only(path, "*.pte") if path.is_dir() else path).load_method("forward")

    def run(x: "Array") -> "list[Array]":
        return [each.numpy() for each in method.execute([torch.from_numpy(x)])]

    return run, method.metadata.input_tensor_meta(0).sizes()


def _only(folder: Path, pattern: str) -> Path:
    """Return the file in an export folder that matches a pattern; raises `FileNotFoundError` if there is none."""
    file = next(folder.glob(pattern), None)
    if file is None:
        raise FileNotFoundError(f"there is no {pattern} in {folder}")
    return file


RUNTIMES = {
    "onnxruntime": Runtime(
        "onnxruntime", "onnx", (".onnx",), _onnxruntime, needs=("onnx", "onnxslim"), int8="yolo_lite"
    ),
    "openvino": Runtime(
        "openvino",
        "openvino",
        ("_openvino_model", ".xml", ".onnx"),
        _openvino,
        int8="Ultralytics",
        int8_needs=("nncf",),
        chooses_bf16=_openvino_chooses_bf16,
    ),
    "ncnn": Runtime("ncnn", "ncnn", ("_ncnn_model",), _ncnn, needs=("pnnx",)),
    "torchscript": Runtime("torch", "torchscript", (".torchscript",), _torchscript),
    "litert": Runtime("ai_edge_litert", "litert", (".tflite",), _litert, needs=("litert_torch",), alone=True),
    "mnn": Runtime("MNN", "mnn", (".mnn",), _mnn, needs=("onnx", "onnxslim"), alone=True),
    "executorch": Runtime("executorch", "executorch", ("_executorch_model", ".pte"), _executorch, alone=True),
}
DEFAULT = ("onnxruntime", "openvino", "ncnn")  # only those that are installed
INT8 = tuple(name for name, runtime in RUNTIMES.items() if runtime.int8)
