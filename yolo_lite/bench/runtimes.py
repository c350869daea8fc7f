"""The runtimes: how each opens an exported model and runs it."""

import json
from collections.abc import Callable
from typing import NamedTuple


class Runtime(NamedTuple):
    """One runtime."""

    package: str  # to import
    format: str  # Ultralytics' name of the export format
    suffixes: tuple[str, ...]  # what it opens, its own format's first
    open: Callable  # (path, threads, precision) -> (function of a batch that returns a list of outputs, input's shape)
    needs: tuple[str, ...] = ()  # more packages, to export


def _onnxruntime(path, threads, precision):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # After a run its threads would go on spinning, in the way of the next model's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    return lambda x: session.run(None, {image.name: x}), image.shape


def _openvino(path, threads, precision):
    import openvino

    file = _only(path, "*.xml") if path.is_dir() else path
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # What is not quantised runs in fp32 in an int8 model, too.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    model = core.compile_model(core.read_model(str(file)), "CPU", settings)
    request = model.create_infer_request()

    def run(x):
        request.infer([x], share_inputs=True)
        return [request.get_output_tensor(i).data for i in range(len(model.outputs))]

    return run, [size.get_length() if size.is_static else None for size in model.inputs[0].partial_shape]


def _ncnn(path, threads, precision):
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

    def run(x):
        with net.create_extractor() as extractor:
            extractor.input(inputs[0], ncnn.Mat(x[0]))
            return [extractor.extract(name)[1].numpy()[None] for name in outputs]

    size = yaml.safe_load(_only(path, "metadata.yaml").read_text("utf-8"))["imgsz"]  # the model does not say it
    return run, [1, 3, *size]


def _torchscript(path, threads, precision):
    import torch

    torch.set_num_threads(threads)
    files = {"config.txt": ""}  # where Ultralytics writes what it knows of the model
    model = torch.jit.load(str(path), map_location="cpu", _extra_files=files).eval()

    def run(x):
        with torch.inference_mode():
            outputs = model(torch.from_numpy(x))
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return [each.numpy() for each in outputs if isinstance(each, torch.Tensor)]

    size = json.loads(files["config.txt"])["imgsz"] if files["config.txt"] else [None, None]
    return run, [1, 3, *size]


def _litert(path, threads, precision):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (image, *_), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shape = [int(size) for size in image["shape"]]
    last = shape[-1] in (1, 3) and shape[1] not in (1, 3)  # channels

    def run(x):
        interpreter.set_tensor(image["index"], x.transpose(0, 2, 3, 1) if last else x)
        interpreter.invoke()
        return [interpreter.get_tensor(each["index"]) for each in outputs]

    return run, [shape[0], shape[3], *shape[1:3]] if last else shape


def _only(folder, pattern):
    """Return the file in a folder that Ultralytics' export has one of."""
    file = next(folder.glob(pattern), None)
    if file is None:
        raise FileNotFoundError(f"there is no {pattern} in {folder}")
    return file


RUNTIMES = {
    "onnxruntime": Runtime("onnxruntime", "onnx", (".onnx",), _onnxruntime, ("onnx", "onnxslim")),
    "openvino": Runtime("openvino", "openvino", ("_openvino_model", ".xml", ".onnx"), _openvino),
    "ncnn": Runtime("ncnn", "ncnn", ("_ncnn_model",), _ncnn, ("pnnx",)),
    "torchscript": Runtime("torch", "torchscript", (".torchscript",), _torchscript),
    "litert": Runtime("ai_edge_litert", "litert", (".tflite",), _litert, ("litert_torch",)),
}


def has_bf16():
    """Tell whether OpenVINO would use bf16 on this CPU if it were left to choose, as it does with AMX."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
