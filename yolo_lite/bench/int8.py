"""INT8 for onnxruntime: a float ONNX file quantised with the statistics of a dataset's training images.

For OpenVINO, Ultralytics' own export does it with NNCF. Its ONNX recipe turns every convolution's surroundings back to
float, which costs more than the integers gain; here what lies between convolutions stays in int8 too, but for the head,
where only the convolutions are.
"""

import itertools
import logging
import random
import re
from pathlib import Path

from yolo_lite.errors import ConfigError, typed_line
from yolo_lite.output import silent

IMAGES = 128  # for calibration
BETWEEN = ["Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Split", "Sigmoid"]


def check_data(data):
    """Return a dataset's description, if all of it is here; nothing is downloaded.

    Raises:
        ConfigError: It cannot be read, or its images are not here.
    """
    from ultralytics.data.utils import check_det_dataset

    try:
        with silent():
            return check_det_dataset(str(data), autodownload=False)
    except Exception as error:
        raise ConfigError(f"data={data} cannot be read as a dataset: {typed_line(error)}") from None


def images(data, imgsz, count=IMAGES):
    """Yield training images as the model takes them; (1, 3, imgsz, imgsz), float32, 0 to 1.

    Args:
        data: The dataset's YAML.
        imgsz: Pixels.
        count: At most so many, drawn at random with a fixed seed.

    Raises:
        ConfigError: There are none that can be read.
    """
    import cv2
    import numpy as np
    from ultralytics.data.augment import LetterBox

    files = training_files(data)
    random.Random(0).shuffle(files)
    box = LetterBox((imgsz, imgsz), auto=False)
    readable = (image for image in map(cv2.imread, map(str, files)) if image is not None)  # as in training
    first = next(readable, None)
    if first is None:
        raise ConfigError(f"data={data}: none of its {len(files)} training images can be read")
    for image in itertools.islice(itertools.chain([first], readable), count):
        image = box(image=image)[..., ::-1]
        yield np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / 255


def training_files(data):
    """Return the files of a dataset's training images, sorted.

    Raises:
        ConfigError: There are none, or a part of the split is missing.
    """
    from ultralytics.data.utils import IMG_FORMATS

    split = check_data(data)["train"]  # Ultralytics has looked whether `val` is there, no more
    files = []
    for place in map(Path, split if isinstance(split, list) else [split] if split else []):
        if place.is_dir():
            files += place.rglob("*.*")
        elif not place.is_file():
            raise ConfigError(f"data={data}: its training split {place} does not exist")
        else:  # a list of files; as for Ultralytics, those that begin with ./ lie beside it
            lines = place.read_text("utf-8-sig").splitlines()
            files += [place.parent / line if line.startswith("./") else Path(line) for line in lines]
    files = sorted(file for file in files if file.suffix[1:].lower() in IMG_FORMATS)
    if not files:
        raise ConfigError(f"data={data}: no images in its training split {split}")
    return files


def quantise(source, target, data, imgsz):
    """Quantise a float ONNX file of a detector: convolutions and what lies between them; in the head convolutions only.

    Args:
        source: The file.
        target: Where to write.
        data: The YAML of the dataset to calibrate with.
        imgsz: The image size of the model, pixels.

    Returns:
        (Path): The target.

    Raises:
        ConfigError: The dataset has no training images, or the file is not one of Ultralytics' exporter.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.images = images(data, imgsz)

        def get_next(self):
            image = next(self.images, None)
            return None if image is None else {"images": image}

    model = onnx.load(source)
    metadata = [(each.key, each.value) for each in model.metadata_props]
    # One scale for boxes in pixels and scores up to 1 would leave nothing of the scores.
    rows = [int(number) for node in model.graph.node for number in re.findall(r"^/model\.(\d+)/", node.name)]
    if not rows:
        raise ConfigError(f"{source} does not name its layers as Ultralytics' exporter does, so the head is not known")
    head = f"/model.{max(rows)}/"
    decode = [node.name for node in model.graph.node if node.name.startswith(head) and not _learned(node)]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a simplification that Ultralytics' export has done already
    try:
        quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", *BETWEEN],
            nodes_to_exclude=decode,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # CPUs without VNNI add products in 16 bits, which full weights overflow
        )
    finally:
        logging.disable(before)
    model = onnx.load(target)
    known = {each.key for each in model.metadata_props}
    for key, value in metadata:  # what Ultralytics needs to know to run it
        if key not in known:
            model.metadata_props.add(key=key, value=value)
    onnx.save(model, target)
    return Path(target)


def _learned(node):
    """Tell whether a node of the head is a convolution with weights that are learned, unlike those that sum up DFL."""
    return node.op_type == "Conv" and "/dfl/" not in node.name
