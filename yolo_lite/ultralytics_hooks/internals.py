"""Everything inside Ultralytics that yolo_lite relies on, whether documented or not.

`INTERNALS` has a row for every name that any file imports, wraps or reads; `OF_A_MODEL` lists attributes of a built
model, `OF_A_CRITERION` those of its criterion, and `Landmarks` what the patched parser searches for in the source of
`parse_model`. Tests check that all of it exists in the oldest and the newest release, and that the list is complete.
When a release breaks something, they report the row and the files that use it.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ultralytics.nn.tasks import BaseModel

TESTED = ("8.4.0", "8.4.190")  # the range of Ultralytics releases that the tests ran on

INTERNALS = {  # module:attribute -> purpose
    "ultralytics:YOLO": "builds, trains and exports models",
    "ultralytics:RTDETR": "builds, trains and exports RT-DETR models",
    "ultralytics:__version__": "refusals and reports name the release",
    "ultralytics:__file__": "its model YAMLs are in cfg/models next to it",
    "ultralytics.models": "imported by a run's process while it waits",
    "ultralytics.cfg:get_cfg": "checks training arguments",
    "ultralytics.cfg:smart_value": "reads a word of the command line as Ultralytics does",
    # wrapped, see the table in hooks.py
    "ultralytics.nn.tasks:parse_model": "builds models whose YAML names a module of yolo_lite's",
    "ultralytics.nn.tasks:yaml_model_load": "finds and checks yolo_lite's model YAMLs",
    "ultralytics.nn.tasks:torch_safe_load": "finds released checkpoints, allows yolo_lite's classes in safe mode",
    "ultralytics.nn.tasks:initialize_weights": "would change the settings of timm's modules",
    "ultralytics.nn.tasks:BaseModel.load": "carries neck and head over by role",
    "ultralytics.nn.tasks:BaseModel.fuse": "fuses yolo_lite's modules, too",
    "ultralytics.nn.tasks:BaseModel.is_fused": "also reports whether yolo_lite's modules are fused",
    "ultralytics.nn.tasks:DetectionModel.init_criterion": "gets the losses that a YAML of yolo_lite's names",
    "ultralytics.nn.tasks:SegmentationModel.init_criterion": "same for segmentation",
    "ultralytics.nn.tasks:PoseModel.init_criterion": "same for pose",
    "ultralytics.nn.tasks:OBBModel.init_criterion": "same for OBB",
    "ultralytics.engine.trainer:BaseTrainer.setup_model": "transfers from a model's source, once images are known",
    "ultralytics.utils.checks:check_file": "finds the configs in the package",
    "ultralytics.data.utils:check_cls_dataset": "makes shapes-cls",
    # models
    "ultralytics.nn.tasks:guess_model_scale": "reads the scale letter from a file's name",
    "ultralytics.nn.tasks:guess_model_task": "distinguishes detectors from other models",
    "ultralytics.nn.tasks:BaseModel": "base class of all models",
    "ultralytics.nn.tasks:DetectionModel": "built from a dictionary",
    "ultralytics.nn.tasks:SegmentationModel": "built from a dictionary",
    "ultralytics.nn.tasks:PoseModel": "built from a dictionary",
    "ultralytics.nn.tasks:OBBModel": "built from a dictionary",
    "ultralytics.nn.tasks:ClassificationModel": "built from a dictionary",
    "ultralytics.nn.tasks:RTDETRDetectionModel": "built from a dictionary",
    "ultralytics.nn.modules.block:C2f": "superclass of C3k2ExtraDW and CSPLite",
    "ultralytics.nn.modules.block:C3k": "C3k2ExtraDW's inner blocks",
    "ultralytics.nn.modules.block:PSABlock": "C3k2ExtraDW's attention",
    "ultralytics.nn.modules.block:Bottleneck": "a transfer knows the role of each layer in it, and in the next six",
    "ultralytics.nn.modules.block:C2PSA": "",
    "ultralytics.nn.modules.block:C3": "",
    "ultralytics.nn.modules.block:PSA": "",
    "ultralytics.nn.modules.block:Proto": "",
    "ultralytics.nn.modules.block:SPPF": "",
    "ultralytics.nn.modules.block:DFL": "yolo_lite's replaces it in light and slim heads",
    "ultralytics.nn.modules.conv:Conv": "what yolo_lite's blocks are built from, so that it is fused",
    "ultralytics.nn.modules.conv:Conv.default_act": "changed while a model is parsed; restored after a failure",
    "ultralytics.nn.modules.conv:Conv.forward_fuse": "fuses a backbone on its own",
    "ultralytics.nn.modules.conv:DWConv": "in the branches of light heads",
    "ultralytics.nn.modules.head:Detect": "light and slim heads are subclasses of it and of the next six",
    "ultralytics.nn.modules.head:Detect.legacy": "changed while a model is parsed",
    "ultralytics.nn.modules.head:Segment": "",
    "ultralytics.nn.modules.head:Segment26": "",
    "ultralytics.nn.modules.head:Pose": "",
    "ultralytics.nn.modules.head:Pose26": "",
    "ultralytics.nn.modules.head:OBB": "",
    "ultralytics.nn.modules.head:OBB26": "",
    # helpers
    "ultralytics.engine.trainer:BaseTrainer": "",
    "ultralytics.engine.trainer:BaseTrainer.preprocess_batch": "batches that BatchNorm statistics are computed from",
    "ultralytics.nn.tasks:load_checkpoint": "reads the source of a transfer",
    "ultralytics.utils.patches:imread": "reads images of any number of channels",
    "ultralytics.utils:SETTINGS": "its weights folder is searched before a released checkpoint is downloaded",
    "ultralytics.utils.downloads:GITHUB_ASSETS_NAMES": "names of Ultralytics' released checkpoints",
    "ultralytics.utils.downloads:attempt_download_asset": "downloads them",
    "ultralytics.utils:USER_CONFIG_DIR": "cache of transferred weights and released checkpoints",
    "ultralytics.utils.torch_utils:unwrap_model": "unwraps a model from DDP and torch.compile",
    "ultralytics.utils.torch_utils:select_device": "resolves device=",
    "ultralytics.data.augment:LetterBox": "prepares images that calibrate int8",
    "ultralytics.data.build:build_yolo_dataset": "scans a dataset's labels",
    "ultralytics.data.utils:check_det_dataset": "finds a dataset",
    "ultralytics.data.utils:img2label_paths": "finds the labels of images",
    "ultralytics.data.utils:DATASETS_DIR": "folder of shapes-cls",
    "ultralytics.data.utils:IMG_FORMATS": "file name extensions of images",
    "ultralytics.utils:DEFAULT_CFG_DICT": "the names of training and export arguments",
    "ultralytics.utils:LOGGER": "logs messages, and is silenced",
    "ultralytics.utils:RANK": "only the first of several workers logs",
    "ultralytics.utils.loss:BboxLoss": "superclass of the SIoU loss",
    "ultralytics.utils.metrics:bbox_iou": "VariFocal loss needs the IoU of a box with its ground truth",
    "ultralytics.utils.metrics:probiou": "VariFocal loss needs the IoU of rotated boxes",
    "ultralytics.utils.metrics:compute_ap": "average precision of a bootstrap resample",
    "ultralytics.utils.torch_utils:fuse_conv_and_bn": "fuses a backbone without a model",
    "ultralytics.utils.torch_utils:strip_optimizer": "finishes a training that was killed at the very end",
}
NEWER = {  # as `INTERNALS`, for what the oldest release lacks, and what happens without it
    "ultralytics.nn.tasks:SAFE_LOAD": "whether checkpoints are loaded in safe mode; without it, never",
}
OF_A_MODEL = {  # attribute of a built detector -> purpose
    "yaml": "the dictionary that it was built from, stored in checkpoints",
    "names": "its class names, by which class weights are carried over",
    "model[0].conv.groups": "groups of a convolution, which are fitted separately",
    "save": "the rows whose outputs are kept",
    "model[0].i": "index of a row",
    "model[0].f": "indices of its input rows",
    "model[0].conv": "parts of a Conv",
    "model[0].bn": "",
    "model[0].act": "",
    "model[-1].reg_max": "bins of the head's box branches",
    "model[-1].dfl": "decodes the bins to distances",
    "model[-1].cv2": "box branches",
    "model[-1].cv3": "class branches",
}
OF_A_CRITERION = {  # attribute of a detector's criterion, or of each branch of an end-to-end criterion -> purpose
    "assigner": "says which predictions are positives",
    "bce": "the class loss, of logits and targets",
    "bbox_loss": "the box loss and the distance loss",
    "reg_max": "bins of the distance loss",
    "device": "device of the losses",
}
OF_AN_END_TO_END_CRITERION = {"one2many": "one-to-many branch", "one2one": "one-to-one branch"}
HEADS = ("Detect", "Classify", "RTDETRDecoder", "Depth", "SemanticSegment")  # not subclasses of another head
TEXT_HEADS = ("WorldDetect", "YOLOEDetect")  # take text besides the image
RUN_HEADS = ("Detect", "Classify")  # take one or more maps of any size
STRIDED_HEADS = ("Detect", "RTDETRDecoder")  # need inputs in the order of their strides
WHOLE_MODELS = ("BaseModel", "Ensemble")  # cannot be a module of another model
WITH_WEIGHTS = ("TorchVision",)  # modules that download weights when they are built
MODELS = {"segment": "SegmentationModel", "pose": "PoseModel", "obb": "OBBModel", "classify": "ClassificationModel"}


class Landmarks:
    """What the patched parser relies on in the source of `parse_model`; unchanged in all releases since 8.0.100."""

    SIGNATURE = ["d", "ch", "verbose"]
    LOOP = "enumerate(d['backbone'] + d['head'])"  # the loop over the rows
    TARGET = "(i, (f, n, m, args))"  # the loop variables of a row
    LOOKUP = "globals()[m]"  # the lookup of a module by its name
    LEGACY = "legacy = True"  # the switch for older heads, set before the loop
    DEFAULT = "c2 = ch[f]"  # the default rule: the last branch of the if-elif chain


def version() -> str:
    """Return the version of the installed Ultralytics."""
    return str(find("ultralytics:__version__"))


def find(name: str) -> Any:
    """Return the object that a key of `INTERNALS` names."""
    return pkgutil.resolve_name(name)


def tasks() -> ModuleType:
    """Return the module `ultralytics.nn.tasks`."""
    return importlib.import_module("ultralytics.nn.tasks")


def namespace() -> dict[str, Any]:
    """Return the names that a stock model YAML may use for modules."""
    return vars(tasks())


def classes(names: tuple[str, ...], namespace: Mapping[str, Any]) -> tuple[type, ...]:
    """Return the classes with the given names, without those that the release lacks."""
    return tuple(namespace[name] for name in names if isinstance(namespace.get(name), type))


def build_model(d: dict[str, Any], task: str = "detect") -> "BaseModel":
    """Build a model from its dictionary, yolo_lite's or a stock one.

    Args:
        d: Model dictionary.
        task: Task of the model's head.
    """
    decoder = d["head"][-1][2] == "RTDETRDecoder"
    kind = "RTDETRDetectionModel" if decoder else MODELS.get(task, "DetectionModel")
    model: BaseModel = getattr(tasks(), kind)(d, verbose=False)
    return model
