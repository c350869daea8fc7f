"""Definition of all options of all commands.

`COMMANDS` is the single source for the command line, settings in Python and in YAML files, `yolo-lite COMMAND --help`
and the tables in the documentation. An option's `Kind` (kinds.py) defines its valid values; arguments.py parses
command lines and files.
"""

from dataclasses import dataclass
from typing import Any

from yolo_lite.kinds import (
    FLAG,
    IMGSZ,
    KEYS,
    NAME,
    TEXT,
    WEIGHTS,
    Kind,
    keyed,
    listed,
    measured,
    number,
    one_of,
    whole,
)  # fmt: skip

REQUIRED: Any = object()  # default of a mandatory option
ANY: int = 1 << 31  # practically unlimited number of words


@dataclass(frozen=True)
class Option:
    """Option of a command.

    Attributes:
        name: Name of the option, as in `name=value`.
        kind: Kind of valid values; None is also valid if it is the default.
        default: Value if the option is not given; `REQUIRED` for a mandatory option.
        help: Description in one line.
        example: Example of a value, as written on the command line.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    example: str

    @property
    def line(self) -> str:
        """Return the description, followed by the choices if there are any."""
        choices = self.kind.choices
        return f"{self.help}: {', '.join(choices)}" if choices else self.help


@dataclass(frozen=True)
class Command:
    """Command with its description and options.

    Attributes:
        summary: Description in one line.
        usage: Synopsis of the arguments after `yolo-lite NAME`.
        example: Example of a valid command line.
        options: Options in order of importance.
        words: Minimum and maximum number of positional words (not key=value).
        trains: Whether the command also accepts all training arguments of Ultralytics.
    """

    summary: str
    usage: str
    example: str
    options: tuple[Option, ...] = ()
    words: tuple[int, int] = (0, 0)
    trains: bool = False

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the defaults by option name, without mandatory options."""
        return {option.name: option.default for option in self.options if option.default is not REQUIRED}


SEEDS = keyed(listed(whole(least=0, most=(1 << 31) - 1), unique=True), "for each model")
THREADS = listed(whole(), unique=True)
NAMES = listed(NAME)
NECKS = ("base", "aspp", "lraspp", "extradw", "slim", "light")
HEADS = ("base", "light", "slim")
TASKS = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}  # suffixes of the YAMLs
TASKS_MEANT = {  # synonyms of tasks; "" for semantic segmentation, which is not supported
    **dict.fromkeys(("seg", "segmentation", "instance", "mask"), "segment"),
    **dict.fromkeys(("keypoint", "keypoints"), "pose"),
    **dict.fromkeys(("oriented", "rotated"), "obb"),
    **dict.fromkeys(("cls", "classification"), "classify"),
    **dict.fromkeys(("semantic", "sem"), ""),
}

COMMANDS: dict[str, Command] = {
    "make": Command(
        "write a model YAML: any base with another backbone and, if you like, one of yolo_lite's necks and heads",
        "[RECIPE.yaml] [key=value ...]",
        "yolo-lite make base=yolov8 backbone=ghostnet_100 neck=aspp head=light out=yolov8-mine.yaml",
        (
            Option(
                "base", NAME, "yolov8",
                "the stock model to change: a model YAML of Ultralytics, without a scale letter", "yolov8",
            ),
            Option(
                "backbone", NAME, "mobilenetv3_large_100",
                "a name from yolo-lite list or from timm; timm/NAME takes timm's where both have it", "ghostnet_100",
            ),
            Option(
                "neck", one_of(*NECKS), "base",
                "the base's own (base), ASPP or LR-ASPP instead of its SPPF (aspp, lraspp), ExtraDW blocks instead of "
                "Concat and C2f, C3 or C3k2 (extradw), YOLOv8's PAN with fewer channels (slim), or a depthwise PAN "
                "(light)",
                "light",
            ),
            Option(
                "head", one_of(*HEADS), "base",
                "the base's own, depthwise branches (light) or few channels (slim)", "light",
            ),
            Option(
                "task", one_of(*TASKS, meant=TASKS_MEANT), "detect",
                "the task; the base needs a YAML for it", "segment",
            ),
            Option(
                "width", keyed(number(), "for each scale"), None,
                "the width multiplier alpha, one number or one per scale; without it, for each scale, the largest "
                "published (else the largest usual) one that makes the model lighter than its base, else the smallest",
                "n:0.5,s:1",
            ),
            Option("scale", TEXT, None, "keep only this scale letter", "n"),
            Option(
                "max_gflops", number(), None,
                "choose the largest alpha from 1/16 to 2 that stays within this many GFLOPs; needs scale=", "3.0",
            ),
            Option("max_params", number(), None, "the same for parameters, in millions", "1.5"),
            Option(
                "imgsz", IMGSZ, None,
                "the image size at which GFLOPs are counted, pixels; without it 640, for classification 224", "640",
            ),
            Option("weights", WEIGHTS, None, "imagenet or the path of a checkpoint, for backbone_weights", "imagenet"),
            Option(
                "edge", FLAG, False, "ReLU6 everywhere and no squeeze-excite, for int8 and edge compilers", "True"
            ),
            Option("out", TEXT, None, "the file to write; without it the YAML is printed", "yolov8-mine.yaml"),
            Option("exist_ok", FLAG, False, "overwrite an existing file", "True"),
            Option("note", TEXT, "", "a comment for the header", "'for the door camera'"),
            Option("count", FLAG, True, "list each scale's cost in the header; takes some seconds per scale", "False"),
            Option("keys", KEYS, None, "YAML keys that differ from the base's", "'{reg_max: 8}'"),
        ),
        words=(0, 1),
    ),
    "transfer": Command(
        "write a checkpoint that carries a trained YOLO's knowledge over to another architecture, without labels",
        "key=value ...",
        "yolo-lite transfer model=yolo26s-lite.yaml source=yolov8n.pt data=my.yaml out=yolo26s-lite-v8n.pt",
        (
            Option("model", NAME, REQUIRED, "the YAML of the model to initialise, stock or not", "yolo26s-lite"),
            Option(
                "source", NAME, REQUIRED,
                "the trained model: a .pt for detection, segmentation, pose or OBB", "yolov8n.pt",
            ),
            Option(
                "data", TEXT, REQUIRED,
                "the dataset's YAML; its training images are used, not its labels", "my.yaml",
            ),
            Option("images", whole(), 128, "the maximum number of training images to use", "128"),
            Option("imgsz", IMGSZ, 640, "height and width of the images, pixels", "320"),
            Option(
                "mimic", number(least=0), 0,
                "minutes for which a backbone whose blocks are not YOLO's first learns the source's feature maps", "5",
            ),
            Option("seed", whole(least=0, most=(1 << 31) - 1), 0, "random seed for sampling images and pixels", "1"),
            Option("device", TEXT, None, "cpu, or a GPU's number; without it a GPU if there is one", "cpu"),
            Option("out", TEXT, None, "the checkpoint to write; without it MODEL-from-SOURCE.pt", "mine.pt"),
            Option("exist_ok", FLAG, False, "overwrite an existing file", "True"),
        ),
    ),
    "compare": Command(
        "train several detectors with the same settings, several seeds each, and report which one to use",
        "[SETTINGS.yaml | FOLDER] [key=value ...]",
        "yolo-lite compare data=shapes.yaml models=yolov8n,yolov8n-mnv3 seeds=0,1,2 epochs=20 imgsz=128 nbs=16",
        (
            Option(
                "models", NAMES, REQUIRED,
                "comma-separated names (yolov8n: its YAML, from scratch), YAML files, or .pt files (that checkpoint)",
                "yolov8n,yolov8n-mnv3",
            ),
            Option("data", TEXT, REQUIRED, "the dataset's YAML", "shapes.yaml"),
            Option("baseline", NAME, None, "the model to compare the others with; without it the first", "yolov8n"),
            Option(
                "seeds", SEEDS, (0, 1, 2),
                "random seeds; in a YAML file or from Python also per model, {all: [0, 1, 2], yolov8n: [0, 1, 2, 3]}",
                "0,1,2",
            ),
            Option("split", NAME, "val", "the split for the final metrics; use test if the dataset has one", "test"),
            Option(
                "match", one_of("gflops", "latency"), None,
                "add size-matched baselines: the base of each model, shrunk in width until it costs the same", "gflops",
            ),
            Option(
                "match_for", NAMES, None,
                "the models that get a size-matched baseline, as model or model:base; without it all that have a base",
                "yolo26s-lite:yolov8n",
            ),
            Option("parallel", whole(), 1, "number of runs at a time on this machine", "2"),
            Option("restart", FLAG, False, "train an interrupted run from the start instead of resuming it", "True"),
            Option(
                "ray", TEXT, None,
                "auto or an address: send the runs to a Ray cluster; device= then counts the GPUs that Ray gives a run",
                "auto",
            ),
            Option("cpus", number(least=0), 1, "CPUs per run on the cluster", "2"),
            Option(
                "gpus", number(least=0), None,
                "GPUs per run on the cluster; without it as many as device= names, if the cluster has any", "1",
            ),
            Option("latency", FLAG, True, "measure latency after the training", "False"),
            Option(
                "runtimes", NAMES, None,
                "runtimes to measure latency in; without it onnxruntime, openvino and ncnn, if installed",
                "onnxruntime",
            ),
            Option("threads", THREADS, (1,), "numbers of threads to measure latency with", "1,2"),
            Option("project", TEXT, "runs/compare", "the parent of the comparison's folder", "runs/compare"),
            Option("name", TEXT, "compare", "the name of the comparison's folder", "compare"),
        ),
        words=(0, 1),
        trains=True,
    ),
    "choose": Command(
        "search for the best lightweight detector for a dataset and a device, within a latency budget",
        "[SETTINGS.yaml] key=value ...",
        "yolo-lite choose data=shapes.yaml budget=3ms imgsz=128 hours=1",
        (
            Option("data", TEXT, REQUIRED, "the dataset's YAML", "my.yaml"),
            Option("budget", measured("ms"), REQUIRED, "the maximum latency per image, in milliseconds", "15ms"),
            Option(
                "runtime", NAME, "onnxruntime",
                "the runtime to measure latency in, as for yolo-lite bench", "openvino",
            ),
            Option("threads", whole(), 1, "number of threads to measure latency with", "2"),
            Option("int8", FLAG, False, "measure in int8, calibrated with the dataset's training images", "True"),
            Option("max_params", measured("M"), None, "the maximum number of parameters, in millions", "2M"),
            Option("max_size", measured("MB"), None, "the maximum size of the float32 weights, in megabytes", "8MB"),
            Option(
                "bases", NAMES, None,
                "stock models to build candidates from; without it yolov8, yolo11 and yolo26", "yolo26",
            ),
            Option(
                "backbones", NAMES, None,
                "names from yolo-lite list; without it one or two per family", "csplite_100",
            ),
            Option(
                "source", NAME, None,
                "a trained YOLO that all candidates start from, as with transfer", "yolov8n.pt",
            ),
            Option(
                "latency", TEXT, None,
                "a bench.csv of yolo-lite bench, made on the device: its models are the candidates", "board.csv",
            ),
            Option("hours", number(), 2, "the maximum duration of the search, in hours", "1.5"),
            Option("split", NAME, "val", "the split that the finalists are compared on", "test"),
            Option("parallel", whole(), 1, "number of runs at a time on this machine", "2"),
            Option("ray", TEXT, None, "auto or an address: send the runs to a Ray cluster, as compare does", "auto"),
            Option("cpus", number(least=0), 1, "CPUs per run on the cluster", "2"),
            Option("gpus", number(least=0), None, "GPUs per run on the cluster", "1"),
            Option("project", TEXT, "runs/choose", "the parent of the search's folder", "runs/choose"),
            Option("name", TEXT, "choose", "the name of the search's folder", "choose"),
        ),
        words=(0, 1),
        trains=True,
    ),
    "bench": Command(
        "measure the latency of models in deployment runtimes, interleaved: tables, CSV and a plot",
        "[SETTINGS.yaml] [key=value ...]",
        "yolo-lite bench models=yolov8n,yolov8n-mnv3,best.pt runtimes=onnxruntime,openvino,ncnn threads=1,2",
        (
            Option(
                "models", NAMES, REQUIRED,
                "comma-separated names, YAML files (random weights, which do not change the time), .pt or exported "
                "files; all are compared with the first", "yolov8n,best.pt",
            ),
            Option(
                "runtimes", NAMES, None,
                "any of onnxruntime, openvino, ncnn, torchscript, litert, mnn, executorch; without it the first three, "
                "if installed",
                "onnxruntime,openvino",
            ),
            Option("imgsz", IMGSZ, 640, "height and width of the image, pixels", "640"),
            Option("threads", THREADS, (1,), "numbers of threads", "1,2"),
            Option(
                "seconds", number(), 10,
                "seconds per model, runtime and number of threads; at least 20 rounds", "10",
            ),
            Option(
                "int8", FLAG, False, "also measure int8, in onnxruntime and OpenVINO, calibrated with data=", "True"
            ),
            Option("data", TEXT, None, "the dataset's YAML whose training images calibrate int8", "my.yaml"),
            Option(
                "out", TEXT, None,
                "the folder for the results; without it runs/bench, runs/bench2, ...", "runs/bench",
            ),
        ),
        words=(0, 1),
    ),
    "list": Command(
        "list the backbones, yolo_lite's or timm's: cost, channels, published weights",
        "[WORD ...] [timm=PATTERN]",
        "yolo-lite list shufflenet v2",
        (Option("timm", TEXT, None, "list timm's networks that match a pattern, for TimmBackbone", "'*repvit*'"),),
        words=(0, ANY),
    ),
    "info": Command(
        "show a backbone, or a model like yolov8n-mnv3.yaml or best.pt: cost, weights, problems for edge compilers",
        "NAME [key=value ...]",
        "yolo-lite info ghostnet_100",
        (
            Option(
                "device", NAME, None,
                "compile a model for a device instead, and show what runs where: ethos-u, rknn, or one device like "
                "ethos-u65-512 or rk3566",
                "ethos-u",
            ),
            Option("imgsz", IMGSZ, 640, "for device=: height and width of the image, pixels", "320"),
            Option(
                "data", TEXT, "shapes.yaml", "for device=: the dataset whose training images calibrate int8", "my.yaml"
            ),
            Option(
                "out", TEXT, None,
                "for device=: a folder to keep the export in, which takes minutes to make", "exports",
            ),
        ),
        words=(1, 1),
    ),
    "doctor": Command("check the installation (exit status 0 or 1)", "", "yolo-lite doctor"),
    "version": Command("print the version", "", "yolo-lite version"),
}  # fmt: skip
