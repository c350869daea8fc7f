"""`yolo-lite transfer`: write a checkpoint of one architecture, initialised from a trained model of another."""

import io
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yolo_lite.arguments import checked, settings
from yolo_lite.commands.list import print_table
from yolo_lite.datasets.images import check_data, letterboxed, training_files
from yolo_lite.errors import ConfigError
from yolo_lite.files import write
from yolo_lite.output import silent

RECORD = "yolo_lite_transfer"  # attribute of the model in the checkpoint that records the transfer


def main(words: list[str]) -> int:
    """Run the transfer with the settings from the command line or a YAML file; print the result for each layer."""
    values = checked("transfer", settings("transfer", words))
    out = Path(values["out"] or f"{Path(values['model']).stem}-from-{Path(values['source']).stem}.pt")
    if out.exists() and not values["exist_ok"]:
        raise ConfigError(f"{out} exists; choose another file for out=, or set exist_ok=True")
    if out.suffix != ".pt":
        raise ConfigError(f"out={out}: has to end in .pt")
    run(values, out)
    print(out)
    return 0


def _shown() -> Callable[[float, float], None]:
    """Return a function that prints the mimicking progress: every second on a terminal, else every 10 % of the time."""
    last, terminal = [-1.0, 0.0], sys.stderr.isatty()

    def show(done: float, error: float) -> None:
        now = time.monotonic()
        if (now - last[1] > 1) if terminal else (done - last[0] > 0.1):
            last[:] = done, now
            end = "\r" if terminal else "\n"
            print(f"mimicking: {done:4.0%}, error {error:.3f}", end=end, file=sys.stderr, flush=True)

    return show


def run(values: dict[str, Any], out: Path) -> None:
    """Transfer the weights, write the checkpoint and print a table of the layers.

    Args:
        values: Values of all options of `yolo-lite transfer`.
        out: Path of the checkpoint to write.

    Raises:
        ConfigError: The model, the source or the dataset is missing or not usable, or as in
            `weights.transfer.transfer`.
    """
    import torch
    from ultralytics.utils.torch_utils import select_device

    from yolo_lite import models
    from yolo_lite.ultralytics_hooks import internals, released
    from yolo_lite.weights.transfer import check, transfer

    began = time.perf_counter()
    if Path(values["source"]).suffix != ".pt":
        raise ConfigError(f"source={values['source']}: needs a trained model, a .pt")
    data = check_data(values["data"])
    target = models.load(values["model"], 64).yolo
    source = models.load(released.checkpoint(values["source"], "source"), 64).yolo
    if source.task != target.task:
        raise ConfigError(f"the source's task is {source.task}, the model's {target.task}; they have to be the same")
    channels = data.get("channels", 3)
    d = {**target.model.yaml, "nc": data["nc"], "channels": channels, "ch": channels}
    with silent():
        device = select_device(values["device"] or ("0" if torch.cuda.is_available() else "cpu"))
        model: Any = internals.build_model(d, target.task)
    model.names, model.task = data["names"], target.task
    files, where = training_files(values["data"]), f"data={values['data']}"
    drawn = letterboxed(files, values["imgsz"], values["images"], where, channels, values["seed"])
    images = torch.stack([torch.from_numpy(image) for image in drawn])
    teacher: Any = source.model.to(device)
    model.to(device)
    check(teacher, model, images)
    if values["mimic"]:
        from yolo_lite.weights.mimicking import mimic

        error = mimic(teacher, model, images, values["mimic"], values["seed"], _shown())
        print(f"\rmimicked for {values['mimic']:g} minutes; error {error:.3f}", file=sys.stderr)
    done = transfer(teacher, model, images, values["seed"])
    setattr(
        model, RECORD, {"source": values["source"], "images": done.images, "layers": [asdict(f) for f in done.fits]}
    )
    target.model = model.cpu()
    checkpoint = io.BytesIO()  # torch's own writer does not raise OSError if the disk is full
    target.save(checkpoint)  # passes its argument on to torch.save
    write(out, checkpoint.getvalue())
    errors = ["" if fit.error is None else f"{fit.error:.4f}" for fit in done.fits]
    rows = [(fit.name, fit.how, error, fit.source) for fit, error in zip(done.fits, errors, strict=True)]
    print_table([("layer", "", "error", "counterpart in the source"), *rows])
    print(f"\n{done}; {time.perf_counter() - began:.0f} s", file=sys.stderr)
