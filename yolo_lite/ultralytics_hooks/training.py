"""Transfer from a trained source when the training of a yolo_lite model begins with `pretrained=`."""

import os
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from ultralytics.nn.modules.head import Detect

from yolo_lite.datasets.images import files_of, letterboxed
from yolo_lite.errors import ConfigError, one_line, typed_line
from yolo_lite.output import say_once
from yolo_lite.weights import cache
from yolo_lite.weights.transfer import DEFAULT, Transferred, transfer

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer

IMAGES = 128  # number of images taken from the training split
SWITCH = "YOLO_LITE_TRANSFER"
transferred: "MutableMapping[torch.nn.Module, Transferred]" = WeakKeyDictionary()  # summary by model in training


def begin(trainer: "BaseTrainer", source: str) -> None:
    """Transfer from a source checkpoint to a trainer's model, identically on all workers.

    If the transfer fails, the model keeps its weights, with those carried over by role, and a warning states why.

    Args:
        trainer: Trainer with its data, and its unwrapped model on the CPU.
        source: Path of the source checkpoint.
    """
    from ultralytics.utils import LOGGER, RANK

    model: Any = trainer.model
    if os.environ.get(SWITCH) == "0" or model.yaml.get("transfer") is False or not isinstance(model.model[-1], Detect):
        return
    if RANK in {-1, 0}:
        began = time.perf_counter()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        try:
            done = _transfer(trainer, source)
        except Exception as error:  # whatever the cause, the requested training continues
            model.load_state_dict(before)
            said = one_line(error) if isinstance(error, ConfigError) else typed_line(error)
            LOGGER.warning(f"transfer: {said}; weights are carried over by role only")
        else:
            transferred[model] = done
            seconds = time.perf_counter() - began
            say_once(f"transfer from {os.path.basename(source)}: {done}; {seconds:.0f} s; {SWITCH}=0 turns it off")
    if RANK > -1 and torch.distributed.is_available() and torch.distributed.is_initialized():
        for value in model.state_dict().values():  # BatchNorm statistics too: DDP does not send them
            there = value.to(trainer.device)
            torch.distributed.broadcast(there, 0)
            value.copy_(there)


def _transfer(trainer: "BaseTrainer", source: str) -> Transferred:
    """Fit the model to the source on training images, on the trainer's device, or load a cached transfer."""
    from ultralytics.nn.tasks import load_checkpoint

    if not os.path.isfile(source):
        raise ConfigError(f"there is no file {source}")
    args: Any = trainer.args
    model: Any = trainer.model
    channels = trainer.data.get("channels", 3)
    files = files_of(trainer.data.get("train"), f"data={args.data}")
    files = files[: max(round(len(files) * args.fraction), 1)]
    imgsz = args.imgsz if isinstance(args.imgsz, int) else max(args.imgsz)
    drawn = letterboxed(files, imgsz, IMAGES, f"data={args.data}", channels, args.seed)
    images = torch.stack([torch.from_numpy(each) for each in drawn])
    teacher = load_checkpoint(source)[0].to(trainer.device)
    names = vars(model).get("names")
    model.names = trainer.data["names"]
    key = cache.key_of(teacher, model, images, args.seed, DEFAULT, trainer.device.type)
    known = cache.read(key)
    try:
        if known is not None:
            model.load_state_dict(known[0])
            return known[1]
        done = transfer(teacher, model.to(trainer.device), images, args.seed)
        cache.write(key, model.state_dict(), done)
        return done
    finally:
        model.to("cpu")
        if names is not None:
            model.names = names
