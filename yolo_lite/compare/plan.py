"""Settings in, a checked list of runs out; nothing is trained or written before all of it is checked.

What a comparison is stands in `comparison.json` in its folder: models, seeds, dataset and training arguments, without a
path of this machine. The same settings go on with it, more models and more seeds extend it, anything else is refused.
"""

import importlib.util
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from yolo_lite import models as zoo
from yolo_lite.compare import baselines
from yolo_lite.compare.folder import is_finished
from yolo_lite.datasets import scan as datasets
from yolo_lite.errors import ConfigError, suggest
from yolo_lite.files import write_json

OURS = {  # setting: default; the others are Ultralytics' training arguments
    "models": None,
    "data": None,
    "baseline": None,  # the first model
    "seeds": "0,1,2",
    "split": "val",
    "match": None,
    "rivals": None,  # the models that get one: all that have a stock host
    "parallel": 1,
    "restart": False,
    "ray": None,
    "cpus": 1,
    "gpus": None,
    "latency": True,
    "runtimes": None,  # those that are installed
    "threads": "1",
    "project": "runs/compare",
    "name": "compare",
}
TAKEN = {  # training arguments that a comparison decides itself
    "model": "models=",
    "seed": "seeds=",
    "resume": "restart=True or the default, which continues",
    "exist_ok": "name=",
    "save_dir": "project= and name=",
    "mode": "nothing, it trains",
    "cfg": "a YAML file as the first word",
}
STAYS = {"plots": False, "deterministic": True}  # unless the user says otherwise
MOST = 1 << 31  # of seeds: numpy takes no larger ones than twice that, the host adds to them
FORMAT = 1


class Run(NamedTuple):
    """One model trained with one seed."""

    model: zoo.Model
    seed: int
    folder: Path


class Plan(NamedTuple):
    """A checked comparison."""

    folder: Path
    record: dict  # what `comparison.json` says
    models: list
    runs: list  # seed by seed, so that what is finished early can be compared
    data: datasets.Dataset
    train: dict  # Ultralytics' training arguments
    how: dict  # settings that change nothing of the results: parallel, restart, ray, ...


def make_plan(settings=None, more=()):
    """Check settings and plan the runs.

    Args:
        settings: The path of a YAML file, or a dictionary; None for none.
        more: Settings that go before those.

    Returns:
        (Plan): What to run; nothing has been written yet.

    Raises:
        ConfigError: A setting, a model, the dataset or the folder cannot be used.
    """
    ours, train = _split({**_read(settings), **dict(more)})
    how = {key: ours[key] for key in ("parallel", "restart", "ray", "cpus", "gpus", "latency", "runtimes", "threads")}
    _check_how(how)
    folder = Path(str(ours["project"]), str(ours["name"])).absolute()
    old = _read_folder(folder)
    names = _words(ours["models"])
    if not names:
        raise ConfigError("models= is missing: name two or more, for example models=yolov8n,yolov8n-mnv3")
    if ours["data"] is None:
        raise ConfigError("data= is missing: name a dataset's YAML file, for example data=coco8.yaml")
    train = _check_train(train)
    data = datasets.load(ours["data"], ours["split"])
    known = {(each["given"], each["digest"]): label for label, each in (old or {"models": {}})["models"].items()}
    models = list(zoo.load_detectors(names, len(data.record["classes"]), train["imgsz"], known))
    baseline = _label(ours["baseline"], "baseline", models) if ours["baseline"] else models[0].label
    seeds = _seeds(ours["seeds"], models)
    found = _rivals(ours["match"], ours["rivals"], models, data, train["imgsz"], folder, old, how)
    for rival in found:
        seeds[rival.model.label] = sorted({seed for label in rival.model.rival_of for seed in seeds[label]})
    models += [rival.model for rival in found]
    _check_labels(models)
    record = {
        "format": FORMAT,
        "name": folder.name,
        "baseline": baseline,
        "match": ours["match"],
        "data": data.record,
        "train": train,
        "models": {model.label: _model_record(model) for model in models},
        "seeds": seeds,
        "samples": [{key: sample[key] for key in ("name", "truth")} for sample in data.samples],
        "rivals": {rival.model.label: rival.d for rival in found},
        "matched": {rival.model.label: rival.matched for rival in found},
    }
    _check_same(old, record, folder)
    runs = [
        Run(model, seed, folder / "runs" / model.label / str(seed))
        for seed in sorted({seed for each in seeds.values() for seed in each})
        for model in models
        if seed in seeds[model.label]
    ]
    _check_space(folder, runs, how["parallel"])
    return Plan(folder, record, models, runs, data, {**train, "data": str(ours["data"])}, how)


def check_folder(plan):
    """Look again whether a plan's folder is new or its own; another command may have been there since it was made.

    Raises:
        ConfigError: It holds another comparison.
    """
    _check_same(_read_folder(plan.folder), plan.record, plan.folder)


def write_folder(plan):
    """Write what a comparison is into its folder, the rivals' YAML files and the sample images with it."""
    write_json(plan.folder / "comparison.json", plan.record)  # first: by it the folder is known as ours
    for name, d in plan.record["rivals"].items():
        baselines.write_yaml(name, d, plan.folder / "models")
    datasets.write_samples(plan.data.samples, plan.folder / "samples")


def parse(words):
    """Turn the words of a command line, `key=value` and at most one YAML file, into settings.

    Returns:
        (str | None, dict): The YAML file, and the settings.

    Raises:
        ConfigError: A word is neither.
    """
    from ultralytics.cfg import smart_value

    file, settings = None, {}
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            if key in settings:
                raise ConfigError(f"{key}= is given twice")
            settings[key] = (
                value
                if key in {"models", "baseline", "seeds", "rivals", "project", "name", "runtimes", "threads"}
                else smart_value(value)
            )
        elif word.endswith((".yaml", ".yml")) and file is None:
            file = word
        else:
            raise ConfigError(f"found {word!r}, needed key=value; for example models=yolov8n,yolov8n-mnv3")
    return file, settings


# Settings -------------------------------------------------------------------------------------------------------------


def _read(settings):
    import yaml

    if settings is None or isinstance(settings, dict):
        return dict(settings or {})
    try:
        found = yaml.safe_load(Path(settings).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{settings}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{settings}: needs settings, key: value, found {type(found).__name__}")
    return found


def _split(settings):
    """Part our settings from Ultralytics' training arguments."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    known = [*OURS, *(key for key in DEFAULT_CFG_DICT if key not in TAKEN)]
    for key in settings:
        if key in TAKEN:
            raise ConfigError(f"{key}= is not for a comparison; use {TAKEN[key]}")
        if key not in known:
            raise ConfigError(f"unknown setting {key}={suggest(key, known)}")
    ours = {key: settings[key] if settings.get(key) is not None else value for key, value in OURS.items()}
    return ours, {key: value for key, value in settings.items() if key not in OURS}


def _words(value):
    """Turn `a,b` or a list into a list of words."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    return [str(part).strip() for part in parts if part is not None and str(part).strip()]


def _check_train(train):
    """Let Ultralytics check its arguments; return those that the user gave, and what a comparison sets."""
    from ultralytics.cfg import get_cfg

    if train.get("task", "detect") != "detect":
        raise ConfigError(f"task={train['task']}: detectors are what is compared")
    if train.get("val") is False:
        raise ConfigError("val=False: the curves over the epochs need the validation")
    try:
        checked = vars(get_cfg(overrides={**STAYS, **train}))
    except Exception as error:
        raise ConfigError(f"training arguments: {' '.join(str(error).split())[:300]}") from None
    size, batch = checked["imgsz"], checked["batch"]
    if not isinstance(size, int) or size < 32 or size % 32:
        near = f", near it is {max(round(size / 32), 1) * 32}" if isinstance(size, int) else ""
        raise ConfigError(f"imgsz={size}: needs a multiple of 32 pixels{near}")
    if not isinstance(batch, int) or batch < 1:
        raise ConfigError(
            f"batch={batch}: needs a whole number from 1; chosen by memory, it would differ between models"
        )
    keys = {**STAYS, **{key: None for key in ("epochs", "imgsz", "batch")}, **train}
    return json.loads(json.dumps({key: checked[key] for key in sorted(keys) if key != "task"}))  # as it is written


def _check_how(how):
    if not isinstance(how["parallel"], int) or isinstance(how["parallel"], bool) or how["parallel"] < 1:
        raise ConfigError(f"parallel={how['parallel']}: needs a whole number from 1")
    for key in ("restart", "latency"):
        if not isinstance(how[key], bool):
            raise ConfigError(f"{key}={how[key]}: needs True or False")
    for key in ("cpus", "gpus"):
        if how[key] is not None and (isinstance(how[key], bool | str) or not how[key] >= 0):
            raise ConfigError(f"{key}={how[key]}: needs a number from 0")
    for package, extra in {
        "scipy": "compare",
        "statsmodels": "compare",
        **({"ray": "ray"} if how["ray"] else {}),
    }.items():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"compare needs {package}: pip install 'yolo-lite-backbones[{extra}]'")
    how["runtimes"], how["threads"] = _words(how["runtimes"]), _numbers("threads", how["threads"], 1)
    if how["latency"]:
        from yolo_lite.compare.latency import runtimes_of

        runtimes_of(how)


def _check_labels(models):
    labels = [model.label for model in models]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"models: two would be called {label}; rename one's file")


def _label(name, setting, models):
    """Find a model by its label, or by what the user called it."""
    for model in models:
        if str(name) in (model.label, model.given, f"{model.label}.yaml"):
            return model.label
    raise ConfigError(f"{setting}={name}: is none of the models{suggest(name, [model.label for model in models])}")


def _seeds(value, models):
    """Return the seeds of each model.

    Args:
        value: `0,1,2`, a list, a number, or a dictionary of such by model, where `all` stands for the others.
    """
    if isinstance(value, dict):
        named = {
            key if key == "all" else _label(key, "seeds", models): _numbers("seeds", each)
            for key, each in value.items()
        }
        missing = [model.label for model in models if model.label not in named and "all" not in named]
        if missing:
            raise ConfigError(f"seeds: {missing[0]} has none; name it or give all: [...]")
        return {model.label: named.get(model.label, named.get("all")) for model in models}
    return {model.label: _numbers("seeds", value) for model in models}


def _numbers(key, value, least=0):
    words = _words(value)
    if not words or not all(word.isdecimal() and least <= int(word) < MOST for word in words):
        raise ConfigError(
            f"{key}={value}: needs whole numbers from {least} to {MOST - 1}, for example {key}={least},{least + 1}"
        )
    numbers = [int(word) for word in words]
    for number in numbers:
        if numbers.count(number) > 1:
            raise ConfigError(f"{key}={value}: {number} is repeated, which would count one run twice")
    return numbers


# The folder -----------------------------------------------------------------------------------------------------------


def _read_folder(folder):
    """Return what `comparison.json` in a folder says; None if the folder is new."""
    file = folder / "comparison.json"
    if file.is_file():
        try:
            old = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file}: cannot be read ({error}); choose another name=") from None
        if old.get("format") != FORMAT:
            raise ConfigError(f"{file}: is of format {old.get('format')}, needed {FORMAT}; choose another name=")
        return old
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise ConfigError(f"{folder}: holds something that is no comparison; choose another name=")
    return None


def _model_record(model):
    return {key: value for key, value in asdict(model).items() if key not in {"label", "source"}}


def _check_same(old, new, folder):
    """Refuse a folder whose comparison is another one. More models and more seeds are welcome, fewer are not."""
    if old is None:
        return
    where = f"{folder} holds another comparison"
    advice = "use the same settings to go on with it, or choose another name="
    for key in ("baseline", "match"):
        if old[key] != new[key]:
            raise ConfigError(f"{where}: {key}={old[key]}, found {key}={new[key]}; {advice}")
    for key in ("split", "classes", "images", "digest"):
        if old["data"][key] != new["data"][key]:
            what = "its images or labels" if key == "digest" else f"data's {key} = {old['data'][key]}"
            raise ConfigError(f"{where}: {what}, found {new['data'][key]}; {advice}")
    if old["data"].get("sizes", new["data"]["sizes"]) != new["data"]["sizes"]:  # folders of older releases have none
        raise ConfigError(f"{where}: its images' files have other sizes now; {advice}")
    for key in sorted({*old["train"], *new["train"]}):
        if old["train"].get(key) != new["train"].get(key):
            raise ConfigError(f"{where}: {key}={old['train'].get(key)}, found {new['train'].get(key)}; {advice}")
    for label, model in old["models"].items():
        if label not in new["models"]:
            raise ConfigError(f"{where}: it has the model {label} too; {advice}")
        if model["digest"] != new["models"][label]["digest"]:
            raise ConfigError(f"{where}: {label} has changed since ({model['given']}); choose another name=")
        missing = set(old["seeds"][label]) - set(new["seeds"][label])
        if missing:
            raise ConfigError(f"{where}: it has {label} with seed {min(missing)} too; {advice}")


def _check_space(folder, runs, parallel):
    """Refuse when the disk cannot hold the results: checkpoints with their optimizer, and small files."""
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not existing.is_dir():
        raise ConfigError(f"{folder}: {existing} is a file; choose another project=")
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"{folder}: cannot be written to; choose another project=")
    unfinished = [run for run in runs if not is_finished(run.folder)]
    half = [2 * run.model.parameters for run in unfinished]  # bytes of a checkpoint in half precision
    needed = sum(2 * size + 1_000_000 for size in half) + parallel * 10 * max(half, default=0) + 20_000_000
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConfigError(
            f"{folder}: {len(unfinished)} runs need about {needed / 1e9:.1f} GB, found {free / 1e9:.1f} GB free; "
            "make room or choose another project="
        )


def _rivals(match, wanted, models, data, imgsz, folder, old, how):
    """Return the shrunk hosts that cost the same as the swapped models, a list of `Rival`."""
    if match is None:
        if wanted is not None:
            raise ConfigError(f"rivals={wanted}: needs match={' or match='.join(baselines.EQUAL)}")
        return []
    if match not in baselines.EQUAL:
        raise ConfigError(f"match={match}: needs {' or '.join(baselines.EQUAL)}{suggest(match, baselines.EQUAL)}")
    hosts = {}
    for word in _words(wanted):
        name, _, host = word.partition(":")
        hosts[_label(name, "rivals", models)] = host
    chosen = [
        (model, hosts.get(model.label) or baselines.host_of(model.label))
        for model in models
        if model.label in hosts or (not hosts and baselines.host_of(model.label))
    ]
    if not chosen:
        raise ConfigError(
            f"match={match}: no model has a stock host in its name, as yolov8n-mnv3 has yolov8n; name one with "
            f"rivals={models[0].label}:yolov8n"
        )
    return baselines.find(match, chosen, data, imgsz, folder, old, how)
