"""INT8 for onnxruntime: quantise a float ONNX file with the statistics of a dataset's training images.

For OpenVINO, Ultralytics' own export uses NNCF. Its ONNX int8 export converts back to float around every convolution,
which costs more time than int8 saves. Here the operators between convolutions are also quantised, except in the head,
where only the convolutions are.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.datasets.images import training_images
from yolo_lite.errors import ConfigError

if TYPE_CHECKING:
    import onnx

IMAGES = 128  # number of calibration images
BETWEEN = ["Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Split", "Sigmoid"]


def quantise(source: Path, target: Path, data: str | Path, imgsz: int) -> Path:
    """Quantise a detector's float ONNX file: convolutions and operators between them, in the head convolutions only.

    Args:
        source: Path of the float ONNX file.
        target: Path of the quantised file to write.
        data: Dataset YAML for calibration.
        imgsz: Image size of the model, pixels.

    Returns:
        (Path): Path of the quantised file.

    Raises:
        ConfigError: The dataset has no training images, or the file was not made by Ultralytics' exporter.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no type annotations
        def __init__(self) -> None:
            self.images = training_images(data, imgsz, IMAGES)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image}

    model = onnx.load(source)
    with _no_advice():
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", *BETWEEN],
            nodes_to_exclude=_decoding(model, source),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # CPUs without VNNI add products in 16 bits, which 8-bit weights would overflow
        )
    _keep_metadata(model, target)
    return target


def _decoding(model: "onnx.ModelProto", source: Path) -> list[str]:
    """Return the head's nodes to keep in float: a common scale for boxes in pixels and scores would lose the scores."""
    rows = [int(number) for node in model.graph.node for number in re.findall(r"^/model\.(\d+)/", node.name)]
    if not rows:
        raise ConfigError(
            f"{source} does not name its layers as Ultralytics' exporter does, so the head cannot be identified"
        )
    head = f"/model.{max(rows)}/"
    return [node.name for node in model.graph.node if node.name.startswith(head) and not _learned(node)]


def _learned(node: "onnx.NodeProto") -> bool:
    """Return whether a node of the head is a convolution with learned weights, unlike the constant ones of DFL."""
    return node.op_type == "Conv" and "/dfl/" not in node.name


def _keep_metadata(before: "onnx.ModelProto", target: Path) -> None:
    """Copy the metadata that Ultralytics needs to run a model into the quantised file."""
    import onnx

    model = onnx.load(target)
    known = {each.key for each in model.metadata_props}
    for each in before.metadata_props:
        if each.key not in known:
            model.metadata_props.add(key=each.key, value=each.value)
    onnx.save(model, target)


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Suppress onnxruntime's advice to simplify the model, which Ultralytics' export has already done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
