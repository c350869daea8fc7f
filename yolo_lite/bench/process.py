"""Parent's side of the timing process: start it, read its output and end it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from yolo_lite.bench import timing
from yolo_lite.bench.export import Exported, Subject
from yolo_lite.bench.measurement import Precision
from yolo_lite.errors import ConfigError, one_line

Say = Callable[[str], None]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    """Exported model to run, with its precision and its image size (height and width, pixels)."""

    subject: Subject
    precision: Precision
    path: Path
    imgsz: int
    control: bool = False


@dataclass(frozen=True)
class Conditions:
    """Settings common to all models of a timing process."""

    runtime: str
    threads: int


@dataclass
class _Heard:
    """Output of the timing process so far: number of opened models, latencies per round."""

    opened: int = 0
    rounds: list[list[float]] = field(default_factory=list)


def time_in_process(how: Conditions, entries: Sequence[Entry], seconds: float, say: Say) -> list[list[float]]:
    """Run models interleaved in a separate process.

    Args:
        how: Runtime and number of threads.
        entries: Exported models to run.
        seconds: Total duration for all models; 0 to only open them.
        say: Function that is called with progress lines.

    Returns:
        (list[list[float]]): Latency of each model in each round, milliseconds, as [round][model].

    Raises:
        ConfigError: The runtime cannot run a model, or an exported file expects another image or batch size.
    """
    heard = _Heard()
    with tempfile.TemporaryFile("w+") as errors:
        process = _start(how, entries, seconds, errors)
        try:
            _listen(process, entries, seconds, heard, say)
            status = process.wait()
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if status:
        where = entries[heard.opened].path if heard.opened < len(entries) else f"one of {len(entries)} models"
        reason = said[-1] if said and status > 0 else f"the process ended with {status}"
        raise ConfigError(f"{how.runtime} cannot run {where}: {one_line(reason)}")
    return heard.rounds


def _start(how: Conditions, entries: Sequence[Entry], seconds: float, errors: IO[str]) -> "subprocess.Popen[str]":
    job = timing.Job(
        runtime=how.runtime,
        threads=how.threads,
        seconds=seconds,
        models=[(str(entry.path.absolute()), entry.precision, entry.imgsz) for entry in entries],
    )
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(how.threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", timing.__name__, json.dumps(job)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)


def _listen(
    process: "subprocess.Popen[str]",
    entries: Sequence[Entry],
    seconds: float,
    heard: _Heard,
    say: Say,
) -> None:
    start = time.monotonic()
    for line in process.stdout or ():
        if not line.startswith("{"):
            continue  # output of the runtime itself
        answer = json.loads(line)
        if "shape" in answer:
            _check_shape(entries[heard.opened], answer["shape"])
            heard.opened += 1
        else:
            heard.rounds.append(answer["times"])
            say(f"  round {len(heard.rounds)}, {time.monotonic() - start:.0f} of about {seconds:.0f} s\r")


def _check_shape(entry: Entry, shape: Sequence[int]) -> None:
    if not isinstance(entry.subject, Exported):
        return
    if list(shape[-2:]) != [entry.imgsz, entry.imgsz]:
        raise ConfigError(f"{entry.path} takes images of {list(shape[-2:])}, but imgsz is {entry.imgsz}")
    if shape[0] != 1:
        raise ConfigError(f"{entry.path} takes {shape[0]} images per batch; export it with batch=1")
