"""Successive halving of a search: trains candidates for more and more epochs, as many as the time allows."""

import contextlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, astuple
from functools import cached_property
from pathlib import Path
from typing import Any

from yolo_lite.choose import held_out
from yolo_lite.choose.candidates import Candidate
from yolo_lite.choose.field import Field
from yolo_lite.choose.schedule import (
    Clock,
    Pace,
    candidates_within,
    epochs_within,
    longer_pilot,
    reserve,
    rungs_within,
)
from yolo_lite.choose.search import Search, Step
from yolo_lite.choose.settings import Settings
from yolo_lite.compare import run as comparing
from yolo_lite.compare.process import Job, Workers
from yolo_lite.compare.record import RunRecord, counting, is_finished, read_run
from yolo_lite.compare.report import search as reported
from yolo_lite.datasets.images import check_data, files_of
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json, write_json

PILOTS = (2, 1, 3)  # quartiles, by latency, of the candidates that are trained first
LEARNED = 0.02  # with a lower mAP50-95 after a number of epochs, scores do not tell candidates apart yet
IMPORTS = 5.0  # seconds that a process takes before it counts its own
MAIN = "mAP50-95"


class Halving:
    """Successive halving: short runs of many candidates, longer runs of the best ones.

    Args:
        wanted: Settings of the search.
        field: Candidates with their latency.
        clock: Clock of the search.
        lock: File descriptor of the lock of the search's folder; None without a lock.
    """

    def __init__(self, wanted: Settings, field: Field, clock: Clock, lock: int | None) -> None:
        self.wanted, self.field, self.clock, self.lock = wanted, field, clock, lock
        self.folder = wanted.folder / "halving"
        self.candidates = {each.label: each for each in field.within}
        self.paces: dict[str, Pace] = {}  # by label
        self.validations: dict[str, float] = {}  # seconds per image, by label
        self.data = held_out.dataset(wanted.data, self.folder)
        self.plan = read_json(wanted.folder / "schedule.json") or {}
        self.search: Search | None = None

    def run(self) -> None:
        """Train until the time for halving is used up or no candidate is left to train."""
        wanted = self.wanted
        settings = (wanted.parallel, self.lock, wanted.ray, self.folder, wanted.cpus, wanted.gpus, wanted.train)
        with contextlib.closing(comparing.workers(*settings, at_once=wanted.parallel)) as at_work:
            if not self.plan:
                self._make_plan(at_work)
            self.open()
            assert self.search is not None
            self._work(at_work, self.search)

    def _make_plan(self, at_work: Workers) -> None:
        """Plan rungs and epochs for the time that is left, from what a few candidates learn and how long it takes.

        They are trained until most of them find objects: before that, scores would not tell candidates apart.
        """
        labels = list(self.candidates)  # the slowest first
        pilots = list(dict.fromkeys(labels[len(labels) * part // 4] for part in PILOTS))
        records = self._pilots(at_work, pilots, 0, 2)
        paces = [pace for pace in (pace_of(record, 2) for record in records) if pace is not None]
        if not paces:
            failed = next((each for each in records if each.error), records[0])
            raise ConfigError(f"{failed.model} cannot be trained: {failed.error}")
        pace, seconds, parallel = _median(paces), self.clock.seconds, self.wanted.parallel
        epochs = self.wanted.train.get("epochs") or epochs_within(seconds, pace, parallel)
        self.plan, done = {"epochs": epochs, "pace": astuple(pace)}, 2
        while True:
            records = [record for record in records if record.metrics is not None]
            scores = [record.metrics.figures[MAIN] for record in records if record.metrics is not None]
            longer = longer_pilot(done, epochs)
            if not scores or statistics.median(scores) >= LEARNED or longer == done:
                break
            after = self.clock.left - self.reserve - len(records) * pace.seconds(longer - done) / parallel
            if candidates_within(after, pace, [longer], parallel) <= len(records):
                break  # no time to train more than these for so long
            records = self._pilots(at_work, [record.model for record in records], done, longer)
            done = longer
        left = self.clock.left - self.reserve
        rungs = rungs_within(left, pace, len(labels), epochs, parallel, done if done > 2 else 1)
        tried = candidates_within(left, pace, rungs, parallel)
        first = len(labels) if tried >= len(labels) else max(1, tried // 2)  # the sampler chooses the others
        self.plan |= {"rungs": rungs, "first": first}
        options = "hours=" if self.wanted.source else "hours= or source=, a trained YOLO to start from,"
        more = "" if tried >= len(labels) else f"; {options} would allow more"
        say(
            f"finalists get {epochs} epochs, candidates are compared after {', '.join(map(str, rungs))}; there is time "
            f"for about {min(tried, len(labels))} of {len(labels)} candidates{more}"
        )
        write_json(self.wanted.folder / "schedule.json", self.plan)

    @cached_property
    def validated(self) -> int:
        """Number of validation images of the dataset."""
        return len(files_of(check_data(self.wanted.data)["val"], f"data={self.wanted.data}"))

    @property
    def reserve(self) -> float:
        """Seconds that are reserved for the finalists."""
        return reserve(self.clock.seconds, Pace(*self.plan["pace"]), self.plan["epochs"], self.wanted.parallel)

    def _pilots(self, at_work: Workers, labels: Sequence[str], done: int, epochs: int) -> list[RunRecord]:
        """Train candidates, side by side, to see their pace and what they learn."""
        jobs = [self._job(Step(-1, label, done, epochs), self.folder / "pilots") for label in labels]
        waiting = [job for job in jobs if not is_finished(Path(job.folder))]
        working = len(waiting)
        while working:
            while waiting and at_work.has_room():
                at_work.begin(waiting.pop(0))
            working -= len(at_work.ended())
            self.clock.tick()
        return [read_run(Path(job.folder), job.model, job.seed) for job in jobs]

    def open(self) -> None:
        """Read the results so far, without training."""
        for label in self.candidates:  # paces of runs before an interruption
            done = 0
            for epochs in self.plan["rungs"]:
                self._note(read_run(self.folder / label / str(epochs), label, 0), epochs - done)
                done = epochs
        parts = {label: _parts(each) for label, each in self.candidates.items()}
        storage = f"sqlite:///{self.wanted.folder / 'halving.db'}"
        self.search = Search(parts, self.plan["rungs"], self.plan["first"], storage)

    def _work(self, at_work: Workers, search: Search) -> None:
        steps: dict[str, Step] = {}
        over = False
        while True:
            while not over and at_work.has_room():
                step = search.next()
                if step is None:
                    break
                folder = self._folder(step)
                if is_finished(folder):  # run of a command that was killed before it recorded the result
                    self._take(search, step, read_run(folder, step.candidate, 0))
                elif self._seconds(step) > self.clock.left - self.reserve:
                    search.put_back(step)
                    over = True
                else:
                    steps[str(folder)] = step
                    at_work.begin(self._job(step, self.folder))
            if not steps:
                return
            for job, record in at_work.ended():
                self._take(search, steps.pop(job.folder), record)
            self.clock.tick()

    def _take(self, search: Search, step: Step, record: RunRecord) -> None:
        """Record the result of an ended run."""
        time = f"{max(self.clock.left, 0) / 60:.0f} min left"
        if record.metrics is None:
            search.fail(step, record.error or "it failed")
            say(f"{step.candidate}: FAILED: {record.error}; {time}")
            return
        self._note(record, step.epochs - step.done)
        score = record.metrics.figures[MAIN]
        goes_on = search.report(step, score)
        last = step.epochs == self.plan["rungs"][-1]
        then = "complete" if last else "continues" if goes_on else "dropped"
        say(f"{step.candidate}: {_epochs(step.epochs)}, {MAIN} {score:.3f}, {then}; {time}")

    def _note(self, record: RunRecord, epochs: int) -> None:
        """Note how long a run took, unless it failed."""
        pace = pace_of(record, epochs)
        if pace is not None:
            self.paces[record.model] = pace
            self.validations[record.model] = (record.evaluate_seconds or 0.0) / record.final.images

    def _seconds(self, step: Step) -> float:
        """Estimate the seconds that a step takes, with a margin of 10 %."""
        return 1.1 * self.pace(step.candidate).seconds(step.epochs - step.done)

    def pace(self, label: str) -> Pace:
        """Return the pace of a candidate, or the median pace of the others if it has not been trained."""
        known = [self.paces[label]] if label in self.paces else list(self.paces.values())
        return _median(known or [Pace(*self.plan["pace"])])

    def final_pace(self, label: str) -> Pace:
        """Return the pace of a finalist: it has all training images, and is validated after each epoch."""
        pace, each = self.pace(label), self.validations.get(label, 0.0)
        return Pace(pace.start, pace.epoch / (1 - held_out.PART) + each * self.validated)

    def _folder(self, step: Step) -> Path:
        return self.folder / step.candidate / str(step.epochs)

    def _job(self, step: Step, folder: Path) -> Job:
        """Return the job of a step, which continues from the checkpoint of the previous step in the folder, if any."""
        candidate = self.candidates[step.candidate]
        epochs = step.epochs - step.done
        settings: dict[str, Any] = {**self.wanted.train, "imgsz": candidate.imgsz, "epochs": epochs}
        settings["val"] = False  # only the last epoch's score counts, and that is always validated
        if self.plan:  # Ultralytics' warm-up of three epochs would leave short runs nothing else
            settings["warmup_epochs"] = self._warmup * epochs / self.plan["epochs"]
        source = self.wanted.folder / "candidates" / f"{candidate.name}.yaml"
        if step.done:
            source = folder / step.candidate / str(step.done) / "weights" / "last.pt"
        elif self.wanted.source:
            settings["pretrained"] = self.wanted.source
        own = folder / step.candidate / str(step.epochs)
        return Job(str(own), step.candidate, str(source), 0, "", str(self.data), settings, recalibrate=True)

    @property
    def _warmup(self) -> float:
        """Epochs of the finalists' warm-up."""
        from ultralytics.utils import DEFAULT_CFG_DICT

        return float(self.wanted.train.get("warmup_epochs", DEFAULT_CFG_DICT["warmup_epochs"]))

    def is_stock(self, label: str) -> bool:
        """Return whether a candidate is a stock model, possibly shrunk."""
        return self.candidates[label].backbone is None

    def report(self, finalists: Sequence[str]) -> reported.Search:
        """Return the description of the search for the report."""
        wanted = self.wanted
        way = (
            f"{wanted.runtime} {'int8' if wanted.int8 else 'fp32'}, {wanted.threads} thread{'s' * (wanted.threads > 1)}"
        )
        return reported.Search(
            budget=wanted.budget,
            way=f"from {Path(wanted.latency).name}" if wanted.latency else way,
            candidates=len(self.field.predicted),
            error=self.field.error,
            data=Path(wanted.data).name,
            rows=self.report_of(finalists),
        )

    def report_of(self, finalists: Sequence[str]) -> list[reported.Row]:
        """Return a row for each candidate that was measured or failed, slowest first."""
        assert self.search is not None
        tried, rows = self.search.tried(), []
        for each in sorted(self.field.predicted, key=lambda each: -self.field.times.get(each, 0)):
            time, trial = self.field.times.get(each), tried.get(each.label)
            if time is None and each.label not in self.field.failed:
                continue
            epochs, score, failed = trial or (0, None, self.field.failed.get(each.label))
            if each.label in finalists:
                outcome = "finalist"
            elif failed:
                outcome = f"failed: {failed}"
            elif time is not None and time > self.field.budget:
                outcome = "over the budget"
            else:
                outcome = f"dropped after {_epochs(epochs)}" if epochs else "no time left to train it"
            rows.append(reported.Row(each.label, time, self.field.parameters[each], each.imgsz, epochs, score, outcome))
        return rows


def pace_of(record: RunRecord, epochs: int) -> Pace | None:
    """Return the pace of a run; None if it failed."""
    if record.metrics is None or record.train_seconds is None:
        return None
    once = record.status == "finished" and len(counting(record.attempts)) <= 1
    besides = record.wall_seconds - record.train_seconds if once and record.wall_seconds else record.evaluate_seconds
    return Pace(IMPORTS + (besides or 0.0), record.train_seconds / epochs)


def _median(paces: Sequence[Pace]) -> Pace:
    return Pace(*(statistics.median(getattr(each, part) for each in paces) for part in ("start", "epoch")))


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' * (number != 1)}"


def _parts(candidate: Candidate) -> dict[str, str | int | float]:
    return {**asdict(candidate), "backbone": candidate.backbone or "its own"}


def say(line: str) -> None:
    if not line.endswith("\r"):
        print(line, file=sys.stderr, flush=True)
