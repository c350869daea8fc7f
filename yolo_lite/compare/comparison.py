"""Definition of a comparison: its models, seeds, dataset and training arguments, as stored in `comparison.json`.

The file contains no path of this machine, so that the folder can be copied. Older formats are migrated here, when they
are read, and nowhere else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yolo_lite.datasets.scan import Content, Sample
from yolo_lite.errors import ConfigError, typed_line

FORMAT = 2
FILE = "comparison.json"


@dataclass(frozen=True)
class Matched:
    """Latency of a size-matched baseline relative to the model that it was made for.

    Attributes:
        ratio: Latency of the baseline divided by that of the model.
        low, high: Ends of the 95 % confidence interval of the ratio.
        runtime, threads: Runtime and number of threads of the measurement.
        environment: Machine and versions of the measurement.
    """

    ratio: float
    low: float
    high: float
    runtime: str
    threads: int
    environment: Mapping[str, str]

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.ratio:.2f} of the time ({self.runtime}, {threads})"


@dataclass(frozen=True)
class SizeMatched:
    """Description of how a size-matched baseline was made.

    Attributes:
        base: Name of the stock model that was shrunk.
        width: Width multiplier of the channels, relative to the base.
        match_for: The models that it was made for, each with its latency ratio; None where GFLOPs were matched.
        yaml: Model YAML as a dictionary.
    """

    base: str
    width: float
    match_for: Mapping[str, Matched | None]
    yaml: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "SizeMatched":
        """Create a description from the plain data of a model's record."""
        match_for = {label: Matched(**each) if each else None for label, each in plain["match_for"].items()}
        return cls(plain["base"], plain["width"], match_for, plain["yaml"])

    @property
    def label(self) -> str:
        """Label of the model; its parts are kept in the fields."""
        return f"{self.base}-w{self.width:g}"


@dataclass(frozen=True)
class ModelRecord:
    """Record of a model in a comparison.

    Attributes:
        given: Name or path as the user wrote it.
        digest: Digest of the model's content: a changed file is another model.
        parameters, gflops, size: Cost of the fused model; size is in bytes of float32 weights.
        size_matched: How it was made, for a size-matched baseline; None for other models.
        imgsz: Image size in pixels, if models differ in it; else None.
    """

    given: str
    digest: str
    parameters: int
    gflops: float
    size: int
    size_matched: SizeMatched | None = None
    imgsz: int | None = None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "ModelRecord":
        """Create a record from plain data."""
        matched = SizeMatched.from_plain(plain) if plain["size_matched"] else None
        known = {key: plain[key] for key in ("given", "digest", "parameters", "gflops", "size")}
        return cls(**known, size_matched=matched, imgsz=plain.get("imgsz"))

    def to_plain(self) -> dict[str, Any]:
        """Return the record as plain data, with the fields of `size_matched` on the same level as the others."""
        plain = asdict(self)
        matched = plain.pop("size_matched")
        if self.imgsz is None:
            del plain["imgsz"]
        return {**plain, "size_matched": matched is not None, **(matched or {})}


@dataclass(frozen=True)
class Comparison:
    """Definition of a comparison.

    Attributes:
        name: Name of the comparison's folder.
        baseline: Label of the model that the others are compared with.
        match: Cost in which size-matched baselines equal their models, "gflops" or "latency"; None without them.
        data: Description of the dataset.
        train: Training arguments of Ultralytics.
        models: Records of the models, by label.
        seeds: Seeds of each model, by label.
        samples: Images on which the report shows detections.
    """

    name: str
    baseline: str
    match: str | None
    data: Content
    train: Mapping[str, Any]
    models: Mapping[str, ModelRecord]
    seeds: Mapping[str, Sequence[int]]
    samples: Sequence[Sample]

    @property
    def size_matched(self) -> dict[str, str]:
        """Label of the size-matched baseline of each model that has one."""
        found = ((label, model.size_matched) for label, model in self.models.items())
        return {model: label for label, matched in found if matched for model in matched.match_for}

    def imgsz(self, label: str) -> int:
        """Return the height and width of a model's images, in pixels."""
        return int(self.models[label].imgsz or self.train["imgsz"])

    @property
    def differ_in_imgsz(self) -> bool:
        """Whether models have images of different sizes."""
        return any(model.imgsz for model in self.models.values())

    @property
    def pixels(self) -> str:
        """Text that lists the image sizes."""
        return " or ".join(map(str, sorted({self.imgsz(label) for label in self.models})))

    @property
    def fraction(self) -> Any:
        """Ultralytics' argument `fraction`: how much of the training images is used, 1 for all."""
        return self.train.get("fraction", 1)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Comparison":
        """Create a comparison from plain data of any known format.

        Raises:
            ConfigError: The format is unknown.
        """
        plain = migrated(plain)
        return cls(
            **{key: plain[key] for key in ("name", "baseline", "match", "train", "seeds")},
            data=Content(**plain["data"]),
            models={label: ModelRecord.from_plain(each) for label, each in plain["models"].items()},
            samples=[Sample(each["name"], each["truth"]) for each in plain["samples"]],
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the content of `comparison.json`."""
        return {
            "format": FORMAT,
            "name": self.name,
            "baseline": self.baseline,
            "match": self.match,
            "data": self.data.to_plain(),
            "train": dict(self.train),
            "models": {label: model.to_plain() for label, model in self.models.items()},
            "seeds": {label: list(seeds) for label, seeds in self.seeds.items()},
            "samples": [sample.to_plain() for sample in self.samples],
        }


def read(folder: Path) -> Comparison | None:
    """Read the comparison in a folder; None if the folder has no `comparison.json`.

    Raises:
        ConfigError: The file cannot be read or has an unknown format.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return Comparison.from_plain(json.loads(file.read_text("utf-8")))
    except ConfigError as error:
        raise error.at(str(file)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: cannot be read: {typed_line(error)}; choose another name=") from None


# Older formats --------------------------------------------------------------------------------------------------------


def migrated(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """Migrate the content of a `comparison.json` to the current format.

    Raises:
        ConfigError: The format is unknown.
    """
    while plain.get("format") != FORMAT:
        step = _STEPS.get(plain.get("format", FORMAT))
        if step is None:
            raise ConfigError(f"is of format {plain.get('format')}, needed {FORMAT}; choose another name=")
        plain = step(plain)
    return plain


def _from_1(old: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate format 1, which kept a size-matched baseline's base and width in its label, the rest in other tables."""
    models = {}
    for label, model in old["models"].items():
        made_for = model["rival_of"]
        models[label] = {key: value for key, value in model.items() if key != "rival_of"}
        models[label]["size_matched"] = bool(made_for)
        if made_for:
            base, _, width = label.rpartition("-w")
            timed = old.get("matched", {}).get(label, {})
            models[label] |= {"base": base, "width": float(width), "yaml": old["rivals"].get(label, {})}
            models[label]["match_for"] = {each: timed.get(each) for each in made_for}
    kept = {key: value for key, value in old.items() if key not in ("rivals", "matched")}
    return {**kept, "format": 2, "models": models}


_STEPS: dict[int, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {1: _from_1}
