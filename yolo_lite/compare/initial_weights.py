"""Description of a run's initial weights: random, loaded from a checkpoint, or transferred."""

from pathlib import Path
from typing import Any

from yolo_lite.files import read_json, write_json

FILE = "initial_weights.json"  # in a run's folder, deleted on a fresh start


def note(trainer: Any) -> None:
    """Callback of a trainer that saves the description once the model has its initial weights."""
    write_json(Path(trainer.save_dir) / FILE, in_words(trainer))


def read(folder: Path) -> str | None:
    """Return the description of a run's initial weights; None if it is not known."""
    found: str | None = read_json(folder / FILE)
    return found


def in_words(trainer: Any) -> str:
    """Describe the initial weights of a trainer's model."""
    from ultralytics.utils.torch_utils import unwrap_model

    from yolo_lite.ultralytics_hooks.training import transferred
    from yolo_lite.weights.by_role import carried

    model: Any = unwrap_model(trainer.model)
    args = trainer.args
    source = args.pretrained if isinstance(args.pretrained, str | Path) else args.model
    if Path(source).suffix != ".pt" or args.pretrained is False:
        loaded = getattr(model.yaml.get("backbone_weights"), "loaded", None)
        return f"random weights, the backbone's from {loaded}" if loaded else "random weights"
    name = Path(source).name
    if model in transferred:
        return f"{name}, transferred: {transferred[model]}"
    ours = model.state_dict()
    if model in carried:
        return f"{name}, by role: {len(carried[model])} of {len(ours)} tensors"
    return f"{name}: {_shared(source, ours)} of {len(ours)} tensors"


def _shared(source: str | Path, ours: dict[str, Any]) -> int:
    """Count the tensors of a checkpoint that Ultralytics loads: those of the same name and shape."""
    from ultralytics.nn.tasks import load_checkpoint

    theirs = load_checkpoint(source)[0].state_dict()
    return sum(name in ours and ours[name].shape == value.shape for name, value in theirs.items())
