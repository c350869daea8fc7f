"""A whole model search: settings, candidate field, time budget, halving, finalists, and the real command."""

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ultralytics import YOLO

pytest.importorskip("optuna")

from yolo_lite.choose import candidates, field, run, schedule, timing
from yolo_lite.choose import halving as halves
from yolo_lite.choose import settings as given
from yolo_lite.choose.candidates import Candidate
from yolo_lite.choose.field import Field
from yolo_lite.choose.schedule import Clock, Finals, Pace
from yolo_lite.compare import cluster, latency
from yolo_lite.compare.process import Job
from yolo_lite.compare.record import Attempt, Evaluation, RunRecord, Start
from yolo_lite.compare.report import search as reported
from yolo_lite.errors import ConfigError
from yolo_lite.files import read_json, write_json

# Settings -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {"data": str(tiny_data), "budget": "3ms", "imgsz": 64, "hours": 0.1}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": None}, "choose needs data="),
        (
            {"budget": None},
            "choose needs budget=, the maximum latency per image, in milliseconds; for example budget=15ms",
        ),
        ({"budget": 0}, "budget has to be a finite number above 0, in ms, found 0"),
        ({"budget": "15s"}, "budget has to be a finite number above 0, in ms, found '15s'; for example budget=15ms"),
        ({"runtime": "onnx"}, "onnx"),
        ({"bases": "yolov9000"}, "bases=yolov9000: Ultralytics has no such model"),
        ({"backbones": "lite_100"}, "backbones=lite_100: there is no such backbone; did you mean 'csplite_100'"),
        *(
            ({"bases": base}, f"bases={base}: needed a detector with scales n and s, such as yolov8, yolo11")
            for base in ("yolov8-p2", "yolov8-seg", "yolo11-cls", "yolov3", "yolov9c", "rtdetr-l", "yolov8-ghost")
        ),
        ({"source": "no.pt"}, "source=no.pt: there is no such file"),
        ({"latency": "no.csv"}, "latency=no.csv: there is no such file"),
        ({"pretrained": "a.pt"}, "pretrained= cannot be set for yolo-lite choose; use source="),
        ({"model": "yolov8n"}, "model= cannot be set for yolo-lite choose; use bases= and backbones="),
        ({"imgsz": {"all": 64}}, "imgsz: one number, the largest"),
        ({"hour": 3}, "unknown setting hour=; did you mean 'hours'"),
    ],
)
def test_refused(settings, change, message):
    with pytest.raises(ConfigError, match=message):
        given.read(settings, change)


@pytest.mark.parametrize(
    "name, message",
    [
        ("yolov8n-seg.yaml", "source=source.pt: its task is segment; needed a detector"),
        ("yolov8n-cls.yaml", "source=source.pt: its task is classify; needed a detector"),
        (None, "source.pt"),
    ],
)
def test_a_source_that_is_no_trained_detector(settings, tmp_path, name, message):
    (tmp_path / "source.pt").write_bytes(b"x")
    if name:
        YOLO(name).save(tmp_path / "source.pt")
    with pytest.raises(ConfigError, match=message):
        given.read(settings, {"source": "source.pt"})


def test_settings(settings, tmp_path):
    found = given.read(settings, {"max_params": "2M", "project": "out", "name": "mine", "lr0": 0.02})
    assert (found.budget, found.max_params, found.imgsz, found.folder) == (3, 2, 64, tmp_path / "out/mine")
    assert found.bases == candidates.BASES and found.train["lr0"] == 0.02 and "epochs" not in found.train
    assert given.read(settings, {"epochs": 30}).train["epochs"] == 30


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": "nowhere.yaml"}, "data=nowhere.yaml"),
        ({"split": "test"}, "split=test: .*no such images; choose from train, val"),
    ],
)
def test_refused_before_anything_is_written(settings, tmp_path, change, message):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=message):
        run.execute(given.read(settings, change))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_search_that_found_no_candidates_may_be_changed(settings):
    wanted = given.read(settings)
    for name in ("works.json", "latency.json", "clock.json"):
        write_json(wanted.folder / name, {})
    run._begin(wanted, "digest")
    run._begin(replace(wanted, hours=5), "digest")
    assert (wanted.folder / "works.json").exists()  # the same search, interrupted
    run._begin(replace(wanted, bases=("yolov8",)), "digest")
    assert {path.name for path in wanted.folder.iterdir()} == {"choose.json"}


def test_a_folder_of_another_search_is_refused(settings, tmp_path):
    wanted = given.read(settings)
    write_json(wanted.folder / "choose.json", run._known_by(wanted, "digest"))
    run._check_folder(replace(wanted, budget=5.0), "digest")  # it has no candidates yet
    write_json(wanted.folder / "field.json", {})
    run._check_folder(replace(wanted, hours=5, parallel=2), "digest")  # hours and parallel may be changed
    with pytest.raises(ConfigError, match=r"holds another search: budget=5.0, it has budget=3"):
        run._check_folder(replace(wanted, budget=5.0), "digest")
    with pytest.raises(ConfigError, match="holds another search: other images or labels"):
        run._check_folder(wanted, "other")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(ConfigError, match="exists, but is not a search"):
        run._check_folder(replace(wanted, folder=tmp_path / "full"), "digest")


# Time -----------------------------------------------------------------------------------------------------------------


def test_rungs_are_as_long_as_the_time_allows():
    pace = Pace(start=10, epoch=2)
    assert schedule.rungs_within(1e9, pace, 30, 27, 1) == [9, 18]
    assert schedule.rungs_within(1e9, pace, 30, 300, 1) == [100, 200]
    assert schedule.rungs_within(1e9, pace, 30, 2, 1) == [1, 2]
    assert schedule.rungs_within(1e9, pace, 30, 1, 1) == [1]
    assert schedule.rungs_within(0, pace, 30, 27, 1) == [1, 2, 4, 8]
    counts, epochs = (32, 16, 8, 4), (3, 3, 6, 12)
    three = schedule.EARLY * sum(count * pace.seconds(done) for count, done in zip(counts, epochs, strict=True))
    assert schedule.candidates_within(three + 1, pace, [3, 6, 12, 24], 1) == 32
    assert schedule.candidates_within(three + 1, pace, [3, 6, 12, 24], 2) == 64
    assert (
        schedule.rungs_within(three + 1, pace, 32, 100, 1)
        == [3, 6, 12, 24]
        == schedule.rungs_within(three / 2 + 1, pace, 32, 100, 2)
    )
    assert schedule.rungs_within(three - 1, pace, 32, 100, 1) == [2, 4, 8, 16]
    assert schedule.rungs_within(three - 1, pace, 32, 100, 1, least=5) == [5, 10, 20, 40]
    assert schedule.rungs_within(three + 1, pace, 32, 100, 1, least=2) == [3, 6, 12, 24]


@pytest.mark.parametrize("parallel", [1, 2, 3, 4, 8, 16])
def test_the_finals_fit_however_many_runs_there_are_at_a_time(parallel):
    """One seed each, then further seeds of two: neither takes less than a whole run."""
    pace, hour = Pace(start=10, epoch=10), 3600
    epochs = schedule.epochs_within(hour, pace, parallel)
    kept = schedule.reserve(hour, pace, epochs, parallel)
    found = schedule.finals_within(kept, [pace] * 8, epochs, parallel)
    run, first = pace.seconds(found.epochs), math.ceil(found.candidates / parallel)
    seeds = schedule.seeds_within(kept - first * run, [pace] * 2, found.epochs, parallel)
    assert found.epochs == epochs and seeds >= found.seeds >= 2
    assert (first + math.ceil(2 * (seeds - 1) / parallel)) * run <= kept <= schedule.FINAL * hour
    assert schedule.seeds_within(run * math.ceil(2 / parallel), [pace] * 2, found.epochs, parallel, done=3) > 3


def test_a_pilot_is_trained_up_to_a_third_of_the_epochs():
    done = [2]
    while (longer := schedule.longer_pilot(done[-1], 40)) > done[-1]:
        done.append(longer)
    assert done == [2, 3, 4, 6, 9, 13]
    assert schedule.longer_pilot(2, 5) == 2 == schedule.longer_pilot(2, 1)


def test_no_more_time_is_reserved_for_the_finalists_than_they_need():
    pace = Pace(start=10, epoch=2)
    assert schedule.reserve(3600, pace, 300, 1) == schedule.FINAL * 3600
    assert schedule.reserve(36000, pace, 5, 2) == pytest.approx(1.1 * 22 * 20 / 2)


def test_what_fits_into_the_time():
    pace = Pace(start=10, epoch=2)
    epochs = schedule.epochs_within(3600, pace, parallel=1)
    assert 0.8 * schedule.FINAL * 3600 < 9 * pace.seconds(epochs) < schedule.FINAL * 3600
    assert schedule.epochs_within(60, pace, 1) == schedule.LEAST
    paces = [pace] * 8
    assert schedule.finals_within(22 * pace.seconds(20), paces, 20, 1) == Finals(8, 8, 20)
    assert schedule.finals_within(14 * pace.seconds(20), paces, 20, 1) == Finals(8, 4, 20)
    assert schedule.finals_within(14 * pace.seconds(20) - 1, paces, 20, 1) == Finals(6, 4, 20)
    assert schedule.finals_within(14 * pace.seconds(20), paces[:7], 20, 1) == Finals(6, 4, 20)
    assert schedule.finals_within(5 * pace.seconds(20), paces, 20, 1) == Finals(3, 2, 20)
    assert schedule.finals_within(5 * pace.seconds(20), paces, 20, 2) == Finals(6, 3, 20)
    assert schedule.finals_within(4 * pace.seconds(20), paces, 20, 1) == Finals(2, 2, 20)
    assert schedule.finals_within(4 * pace.seconds(7), paces, 20, 1) == Finals(2, 2, 7)
    assert schedule.finals_within(-100, paces, 20, 1) == Finals(2, 2, 1)
    assert schedule.finals_within(-100, [Pace(0, 0)] * 6, 20, 1) == Finals(2, 2, 1)
    slow = Pace(start=10, epoch=4)
    assert schedule.finals_within(22 * slow.seconds(20), [pace, *[slow] * 7], 20, 1) == Finals(8, 8, 20)


def test_the_last_finalists_get_the_seeds_that_fit():
    paces = [Pace(start=10, epoch=2), Pace(start=10, epoch=4)]
    each = 50 + 90
    for seconds, parallel, seeds in ((-9, 1, 2), (each, 1, 2), (2 * each, 1, 3), (2 * each, 2, 5), (99 * each, 1, 8)):
        assert schedule.seeds_within(seconds, paces, 20, parallel) == seeds
    assert schedule.seeds_within(100, [Pace(0, 0)] * 2, 20, 1) == 2  # unknown pace


def test_the_clock_goes_on(tmp_path):
    write_json(tmp_path / "clock.json", {"seconds": 100})
    clock = Clock(tmp_path / "clock.json", 0.5)
    assert 100 <= clock.spent < 160 and clock.left == pytest.approx(1800 - clock.spent, abs=1)
    clock.tick()
    assert read_json(tmp_path / "clock.json") == {"seconds": 100}  # not written at every tick
    clock.tick(0)
    assert read_json(tmp_path / "clock.json")["seconds"] >= 100


# Field ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """Shrink the space to a dozen candidates with latencies linear in their dense work; return the measured names."""
    monkeypatch.setattr(candidates, "WIDTHS", (0.5,))
    monkeypatch.setattr(candidates, "SHRUNK", (0.5,))
    monkeypatch.setattr(candidates, "SCALES", ("n",))
    monkeypatch.setattr(candidates, "SIZES", (1.0, 0.5))
    monkeypatch.setattr(candidates, "PARTS", (("base", "base"), ("slim", "slim")))
    measured = []

    def measure(names, runtimes, threads, sizes, seconds, folder, data, say):
        measured.extend(names)
        works = read_json(next(iter(names.values())).parents[1] / "works.json") or {}
        times = {}
        for label, path in names.items():
            if "mobilenet" in label and sizes[label] == 32:
                raise ConfigError("cannot be exported")
            done = works.get(path.stem, {"work": {"dense": 1.0}})["work"]
            times[label] = 0.1 + done["dense"] * (sizes[label] / 64) ** 2
        return [SimpleNamespace(model=k, p50=v, control=False, precision="fp32") for k, v in times.items()]

    monkeypatch.setattr(timing, "measure", measure)
    return measured


def test_the_field(settings, few, capsys):
    wanted = given.read({**settings, "budget": "99ms", "bases": "yolov8", "backbones": "mobilenetv3_small_100"})
    found = field.find(wanted, {"nc": 3}, print)
    assert {each.imgsz for each in found.predicted} == {64, 32} and len(found.predicted) == 8
    assert len(found.failed) == 2 and set(found.failed.values()) == {"cannot be exported"}
    assert len(found.times) == 6
    assert all((wanted.folder / "candidates" / f"{each.name}.yaml").exists() for each in found.times)
    few.clear()
    assert field.find(wanted, {"nc": 3}, print) == found and not few  # nothing is measured twice
    assert Field.from_plain(json.loads(json.dumps(found.to_plain()))) == found


def test_stock_candidates_request_the_transfer_from_a_source(settings, few, tmp_path):
    wanted = given.read({**settings, "budget": "99ms", "bases": "yolov8", "backbones": "mobilenetv3_small_100"})
    for each, source in ((wanted, None), (replace(wanted, folder=tmp_path / "from", source="source.pt"), "source.pt")):
        field.find(each, {"nc": 3}, print)
        text = (each.folder / "candidates" / "yolov8n-w0p5.yaml").read_text("utf-8")
        assert yaml.safe_load(text).get("transfer", False) is bool(source)


def test_a_budget_that_nothing_meets(settings, few):
    wanted = given.read({**settings, "budget": 1e-3, "bases": "yolov8", "backbones": "mobilenetv3_small_100"})
    with pytest.raises(ConfigError, match=r"budget=0.001ms: the fastest of the candidates takes about"):
        field.find(wanted, {"nc": 3}, print)


def test_a_budget_that_one_candidate_meets(settings, few, tmp_path):
    """There is nothing to choose from; that is said before any training, and the search can be repeated."""
    wanted = given.read({**settings, "budget": "99ms", "bases": "yolov8", "backbones": "mobilenetv3_small_100"})
    times = sorted(field.find(wanted, {"nc": 3}, print).times.values())
    small = replace(wanted, folder=tmp_path / "small", budget=(times[0] + times[1]) / 2)
    message = rf"only yolov8n-w0p5-32 is within it \({times[0]:.1f} ms\).*; the next one takes {times[1]:.1f} ms"
    with pytest.raises(ConfigError, match=message):
        field.find(small, {"nc": 3}, print)
    assert not (small.folder / field.FILE).exists()
    table = tmp_path / "board.csv"
    table.write_text("model,p50\nyolov8n-64,3.2\nyolov8n-w0p5-64,3.1\n")  # a little over the budget
    with pytest.raises(ConfigError, match="budget=3ms: the fastest of the candidates takes 3.1 ms"):
        field.find(replace(wanted, folder=tmp_path / "table", budget=3.0, latency=str(table)), {"nc": 3}, print)


def test_a_reference_that_cannot_be_exported(settings, few, monkeypatch):
    """Another candidate takes its place; if none can be exported, that is said in one sentence."""
    measure = timing.measure

    def broken(names, *args, **kwargs):
        if bad & {*names}:
            raise ConfigError("no such operator")
        return measure(names, *args, **kwargs)

    monkeypatch.setattr(timing, "measure", broken)
    wanted = given.read({**settings, "budget": "99ms", "bases": "yolov8", "backbones": "mobilenetv3_small_100"})
    bad = {"yolov8n-64"}
    found = field.find(wanted, {"nc": 3}, print)
    assert found.failed["yolov8n-64"] == "no such operator" and len(found.times) == 5
    again = timing.Timings(wanted.folder / "latency.json", next(iter(found.predicted)), None, timing.Device(), print)
    assert again.reference in found.times
    bad = {each.label for each in found.predicted}
    with pytest.raises(ConfigError, match="^no candidate can be exported and run; yolov8n-64: no such operator$"):
        field.find(replace(wanted, folder=wanted.folder.with_name("other")), {"nc": 3}, print)


def test_measuring_ends_in_time(tmp_path, monkeypatch):
    def measure(names, *args, **kwargs):
        return [SimpleNamespace(model=label, p50=1.0, control=False, precision="fp32") for label in names]

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(timing, "BATCH", 2)
    known = [Candidate("yolov8", "n", 32 * number) for number in range(1, 8)]
    timings = timing.Timings(tmp_path / "latency.json", known[0], tmp_path, timing.Device(), print)
    timings.measure(known, until=time.monotonic() - 1)
    assert [*timings.known] == [each.label for each in known[:3]]  # the reference and one batch
    timings.measure(known, until=time.monotonic() + 60)
    assert [*timings.known] == [each.label for each in known]


def test_limits_of_size(settings, few):
    wanted = {**settings, "budget": "99ms", "bases": "yolov8", "backbones": "mobilenetv3_small_100"}
    with pytest.raises(ConfigError, match="max_params=0.001, max_size=None: every candidate is larger"):
        field.find(given.read(wanted, {"max_params": 0.001}), {"nc": 3}, print)
    found = field.find(given.read(wanted, {"max_params": 2, "name": "small"}), {"nc": 3}, print)
    assert found.parameters and max(found.parameters.values()) <= 2


def test_a_table_of_times_measured_elsewhere(settings, few, tmp_path):
    table = tmp_path / "board.csv"
    table.write_text(
        "model,p50,control\nyolov8n-64,2.5,False\nyolov8n-w0p5-32,1.5,False\nyolov8n,9,True\nother,1,False\n"
    )
    wanted = given.read({**settings, "latency": str(table), "bases": "yolov8", "backbones": "mobilenetv3_small_100"})
    found = field.find(wanted, {"nc": 3}, print)
    assert {each.label: time for each, time in found.times.items()} == {"yolov8n-64": 2.5, "yolov8n-w0p5-32": 1.5}
    assert not few and found.error is None
    table.write_text("model,p50\nmine,1\n")
    with pytest.raises(ConfigError, match="none of its models is a candidate; candidates have names like yolov8n-64"):
        field.find(replace(wanted, folder=tmp_path / "other"), {"nc": 3}, print)
    rows = ["yolov8n,64,onnxruntime,1,fp32,2.5", "yolov8n,32,onnxruntime,1,fp32,1.5", "yolov8n,64,ncnn,1,fp32,2.0"]
    rows += ["yolov8n-w0p5,64,ncnn,1,fp32,1.2", "yolov8n,64,onnxruntime,2,fp32,1.9", "yolov8n,64,onnxruntime,1,int8,1"]

    def latencies(name, **more):
        each = replace(wanted, folder=tmp_path / name, **more)
        return {each.label: time for each, time in field.find(each, {"nc": 3}, print).times.items()}

    table.write_text("\n".join(["model,imgsz,runtime,threads,precision,p50", *rows]))
    assert latencies("one") == {"yolov8n-64": 2.5, "yolov8n-32": 1.5}  # of that runtime, threads and precision alone
    assert latencies("two", runtime="ncnn") == {"yolov8n-64": 2.0, "yolov8n-w0p5-64": 1.2}
    with pytest.raises(ConfigError, match="has no row for runtime ncnn, threads 4, precision fp32; it has "):
        latencies("three", runtime="ncnn", threads=4)
    table.write_text("model,p50\nyolov8n,1\nyolov8n,2\n")
    with pytest.raises(ConfigError, match="board.csv: has several rows for yolov8n; needed one"):
        latencies("four")
    table.write_text("model,p50\nyolov8n,fast\n")
    with pytest.raises(ConfigError, match="board.csv: the p50 of yolov8n is 'fast'; needed milliseconds"):
        latencies("five")
    table.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="needs a bench.csv of yolo-lite bench"):
        field.find(replace(wanted, folder=tmp_path / "third"), {"nc": 3}, print)


# Halving --------------------------------------------------------------------------------------------------------------


class Workers:
    """Runs that end at once, with an accuracy that is known."""

    queues = False

    def __init__(self, accuracy, limit=10**9):
        self.accuracy, self.limit, self.jobs, self.over = accuracy, limit, [], []

    def has_room(self):
        return len(self.over) < 2

    def begin(self, job):
        if len(self.jobs) == self.limit:
            raise KeyboardInterrupt
        self.jobs.append(job)
        score = self.accuracy(job.model)
        record = RunRecord(job.model, 0, status="failed", error="it broke")
        if score is not None:
            figures = {"mAP50-95": score, "mAP50": score, "F1": score, "P": score, "R": score}
            record = replace(record, status="finished", error=None, wall_seconds=3.0, train_seconds=2.0)
            record = replace(record, evaluate_seconds=1.0)
            record = replace(record, metrics=Evaluation("val", 2, figures, {}, 100))
        write_json(Path(job.folder) / "run.json", record.to_plain())
        self.over.append((job, record))

    def ended(self):
        over, self.over = self.over, []
        return over

    def close(self):
        pass


@pytest.fixture
def halving(settings, monkeypatch):
    """Return a function that creates a halving of nine candidates, and the workers that record its jobs."""

    def make(accuracy, limit=10**9, hours=10, **more):
        wanted = given.read(settings, {"epochs": 27, "hours": hours, **more})
        names = [Candidate("yolov8", "n", 64, width=0.1 * number) for number in range(1, 3)]
        names += [Candidate("yolov8", "n", 64, "csplite_100", 0.1 * number) for number in range(1, 8)]
        times = {each: 1.0 + 10 * each.width for each in names}
        for each in names:
            (wanted.folder / "candidates").mkdir(parents=True, exist_ok=True)
            (wanted.folder / "candidates" / f"{each.name}.yaml").write_text(f"# {each.name}\n")
        workers = Workers(accuracy, limit)
        monkeypatch.setattr(halves.comparing, "workers", lambda *args, **kwargs: workers)
        found = Field(times, times, dict.fromkeys(names, 1.0), 7.5, 0.05)
        return halves.Halving(wanted, found, Clock(wanted.folder / "clock.json", hours), None), workers

    return make


def width(label):
    return int(label.split("p")[-1].split("-")[0]) / 10


def test_halving(halving):
    found, workers = halving(width)
    found.run()
    over = [each for each in found.field.times if found.field.times[each] > 7.5]
    assert over and not {each.label for each in over} & {job.model for job in workers.jobs}
    pilots, jobs = workers.jobs[:3], workers.jobs[3:]
    assert all(job.recalibrate and job.settings["val"] is False for job in workers.jobs)
    assert {(job.settings["epochs"], "warmup_epochs" in job.settings) for job in pilots} == {(2, False)}
    assert len({job.model for job in pilots}) == 3
    first = [job for job in jobs if job.folder.endswith("/9")]
    assert {job.model for job in first} == {*found.candidates} and all(job.source.endswith(".yaml") for job in first)
    assert all(job.settings["warmup_epochs"] == 1 for job in first)  # a third of the finalists' three
    later = [job for job in jobs if "/18" in job.folder]
    assert {job.settings["epochs"] for job in jobs} == {9}  # 18 in all for those that continue
    assert later and all(job.source.endswith("weights/last.pt") and job.settings["imgsz"] == 64 for job in later)
    assert len({job.folder for job in workers.jobs}) == len(workers.jobs) < 3 * len(first)
    run._choose_finalists(found, found.clock)
    known = read_json(found.wanted.folder / run.FINALS)
    assert len(known["models"]) == 8 and known["epochs"] == 27 and max(found.candidates, key=width) in known["models"]
    assert {path.stem for path in (found.wanted.folder / "models").iterdir()} == {*known["models"]}
    settings = run._comparison(found.wanted)
    assert settings["epochs"] == 27 and settings["seeds"] == {"all": [0]} and len(settings["models"]) == 8
    rows = {row.label: row for row in found.report(known["models"]).rows}
    assert rows[over[0].label].outcome == "over the budget" and rows[known["models"][0]].outcome == "finalist"
    few = {row.label: row.outcome for row in found.report_of(known["models"][:2])}
    assert any(outcome.startswith("dropped after") for outcome in few.values())


def trained_finalists(found, scores, seed=0):
    """Write the records of finalists trained with one seed; return their plan."""
    runs = []
    for label, score in scores.items():
        folder = found.wanted.folder / "finals/runs" / label / str(seed)
        workers = Workers(lambda _, score=score: score)
        workers.begin(Job(str(folder), label, "", 0, "", "", {}))
        runs.append(SimpleNamespace(model=SimpleNamespace(label=label), seed=seed, folder=folder))
    return SimpleNamespace(runs=runs)


def test_the_two_best_finalists_get_further_seeds(halving):
    found, _ = halving(width)
    found.run()
    run._choose_finalists(found, found.clock)
    ours, other, third, *_ = [label for label in found.candidates if "csplite" in label]  # slowest first
    stock = next(label for label in found.candidates if "csplite" not in label)
    run._choose_last(found, trained_finalists(found, {third: 0.1, ours: 0.5, other: 0.4, stock: None}), found.clock)
    known = read_json(found.wanted.folder / run.FINALS)
    assert known["last"] == [ours, other] and known["seeds"] == 8 and len(known["models"]) == 8
    settings = run._comparison(found.wanted)
    assert settings["seeds"] == {"all": [0], ours: [*range(8)], other: [*range(8)]} and settings["baseline"] == ours
    write_json(found.wanted.folder / run.FINALS, {key: known[key] for key in ("models", "epochs", "imgsz")})
    run._choose_last(found, trained_finalists(found, {ours: 0.5, other: 0.5, third: 0.5, stock: 0.3}), found.clock)
    assert read_json(found.wanted.folder / run.FINALS)["last"] == [third, other]  # of equal ones the faster
    write_json(found.wanted.folder / run.FINALS, {key: known[key] for key in ("models", "epochs", "imgsz")})
    run._choose_last(found, trained_finalists(found, {ours: 0.5, other: 0.4, third: 0.3, stock: 0.45}), found.clock)
    assert read_json(found.wanted.folder / run.FINALS)["last"] == [stock, ours]  # the stock model is the baseline


def test_without_two_trained_finalists_none_gets_further_seeds(halving):
    found, _ = halving(width)
    found.run()
    run._choose_finalists(found, found.clock)
    first, second = [*found.candidates][:2]
    run._choose_last(found, trained_finalists(found, {first: 0.5, second: None}), found.clock)
    assert "last" not in read_json(found.wanted.folder / run.FINALS)
    assert run._comparison(found.wanted)["seeds"] == {"all": [0]}


def test_a_stock_model_is_always_asked(halving, monkeypatch):
    found, _ = halving(width)
    found.run()
    ranking = sorted(found.candidates, key=lambda label: "csplite" not in label)  # stock models ranked last
    monkeypatch.setattr(found.search, "ranking", lambda: ranking)
    monkeypatch.setattr(schedule, "SIZES", ((6, 2),))
    run._choose_finalists(found, found.clock)
    stock = next(label for label in ranking if "csplite" not in label)
    assert read_json(found.wanted.folder / run.FINALS)["models"] == [*ranking[:5], stock]


def test_a_source_is_where_candidates_begin(halving, tmp_path):
    YOLO("yolov8n.yaml").save(tmp_path / "source.pt")
    found, workers = halving(width, source=str(tmp_path / "source.pt"))
    found.run()
    for job in workers.jobs:
        assert job.settings.get("pretrained") == (str(tmp_path / "source.pt") if job.source.endswith(".yaml") else None)
    run._choose_finalists(found, found.clock)
    assert run._comparison(found.wanted)["pretrained"] == str(tmp_path / "source.pt")


def test_the_pace_is_measured_with_candidates_that_can_be_trained(halving):
    labels = [*halving(width)[0].candidates]
    middle, slow, fast = labels[4], labels[2], labels[6]
    found, workers = halving(lambda label: None if label in (middle, slow) else width(label))
    found.run()
    assert [job.model for job in workers.jobs[:3]] == [middle, slow, fast] and found.plan["rungs"] == [9, 18]
    found, workers = halving(lambda label: None, name="other")
    with pytest.raises(ConfigError, match=f"{middle} cannot be trained: it broke"):
        found.run()
    assert len(workers.jobs) == len(halves.PILOTS)


def test_candidates_are_compared_no_earlier_than_most_pilots_learn(halving):
    """Two of three find something after six epochs; as there is no time for all, the sampler chooses some."""
    labels = [*halving(width)[0].candidates]
    scores = {labels[4]: [0.04, 0.05, 0.1, 0.1], labels[2]: [0.0] * 4, labels[6]: [0, 0, 0.01, 0.03]}
    found, workers = halving(
        lambda label: scores[label].pop(0) if scores.get(label) else width(label), hours=220 / 3600
    )
    found.run()
    pilots = [job for job in workers.jobs if "pilots" in job.folder]
    for label in scores:
        own = [job for job in pilots if job.model == label]
        folders = [Path(job.folder) for job in own]
        assert [path.name for path in folders] == ["2", "3", "4", "6"]
        assert [job.settings["epochs"] for job in own] == [2, 1, 1, 2]
        assert [job.source for job in own[1:]] == [str(path / "weights/last.pt") for path in folders[:3]]
    assert found.plan["rungs"] == [6, 12, 24] and found.plan["first"] == 2


def test_a_failure_is_a_row_and_the_rest_goes_on(halving):
    bad = "yolov8n-csplite100-a0p3-64"
    found, workers = halving(lambda label: None if label == bad else width(label))
    found.run()
    assert {row.label: row.outcome for row in found.report_of([])}[bad] == "failed: it broke"
    jobs = [job for job in workers.jobs if "pilot" not in job.folder]
    assert sum(job.model == bad for job in jobs) == 1 and bad not in found.search.ranking()


def test_a_killed_halving_goes_on(halving):
    """Whatever ended is taken in, nothing is trained twice."""
    made = []
    for _ in range(30):
        found, workers = halving(width, limit=2)
        try:
            found.run()
        except KeyboardInterrupt:
            made += workers.jobs
            continue
        made += workers.jobs
        break
    assert len(made) > 8 and len({job.folder for job in made}) == len(made)
    assert found.search.ranking()[0] == max(found.candidates, key=width)
    assert {*found.paces} == {*found.candidates}  # including runs from before the kill


def test_the_time_is_kept(halving):
    """Each run takes 8 s for an epoch or more: with 90 s there is time for some, and the finalists' part is left."""
    found, workers = halving(width, hours=90 / 3600)
    began = time.monotonic()
    found.clock.began -= 40
    found.run()
    assert 2 <= len(workers.jobs) < 9 and time.monotonic() - began < 30
    assert found.clock.left > schedule.FINAL * 90 - 20
    run._choose_finalists(found, found.clock)
    assert read_json(found.wanted.folder / run.FINALS)["epochs"] < 27


def test_a_run_killed_while_it_is_evaluated_has_a_pace():
    """Its process has not trained; its training took as long as the table says."""
    record = RunRecord("m", 0, status="finished", wall_seconds=3.0, train_seconds=600.0, evaluate_seconds=2.0)
    record = replace(record, metrics=Evaluation("val", 2, {}, {}, 100))
    fresh, evaluated = Attempt("", Start("fresh")), Attempt("", Start("evaluate"))
    assert halves.pace_of(replace(record, attempts=[fresh, evaluated]), 10) == Pace(halves.IMPORTS + 2, 60)
    assert halves.pace_of(replace(record, attempts=[fresh], wall_seconds=610.0), 10) == Pace(halves.IMPORTS + 10, 60)
    resumed = replace(record, status="resumed", attempts=[fresh, Attempt("", Start("resume", epoch=3))])
    assert halves.pace_of(resumed, 10) == Pace(halves.IMPORTS + 2, 60)
    assert halves.pace_of(replace(record, status="failed", metrics=None), 10) is None


def test_pilots_end_in_time(halving):
    """They learn nothing: of 300 epochs they would be trained for 100, which takes longer than the search may."""
    found, workers = halving(lambda label: 0.0, hours=0.1, epochs=300)
    found.run()
    pilots = [int(Path(job.folder).name) for job in workers.jobs if "/pilots/" in job.folder]
    assert 9 < max(pilots) < 50 and len({job.model for job in workers.jobs}) > len(halves.PILOTS)


def test_finalists_are_expected_to_take_longer(halving):
    """They have all training images, and are validated after each epoch."""
    found, _ = halving(width)
    found.run()
    label = found.search.ranking()[0]
    pace, images = found.pace(label), found.validated
    assert images > 0 and found.final_pace(label) == Pace(pace.start, pace.epoch / 0.8 + images * 0.5)


def test_more_hours_for_finalists_that_are_chosen_are_more_seeds(halving):
    """The halving is over: no candidate is trained, and the last finalists remain the same."""
    found, _ = halving(width)
    found.run()
    run._choose_finalists(found, found.clock)
    ours, other, *_ = [label for label in found.candidates if "csplite" in label]
    plan = trained_finalists(found, {ours: 0.5, other: 0.4})
    found.clock.seconds = found.clock.spent + 30
    run._choose_last(found, plan, found.clock)
    known = read_json(found.wanted.folder / run.FINALS)
    assert known["last"] == [ours, other] and known["seeds"] == 2
    later = trained_finalists(found, {ours: 0.1, other: 0.9}, seed=1)
    found.clock.seconds += 3600
    run._choose_last(found, SimpleNamespace(runs=[*plan.runs, *later.runs]), found.clock)
    assert read_json(found.wanted.folder / run.FINALS) == {**known, "seeds": 8}


def test_latency_that_a_comparison_cannot_measure_is_that_of_the_search(halving, tmp_path):
    """In int8, or on another device: the report shows it, and the cheaper of two finalists is the faster one."""
    found, _ = halving(width)
    assert run._measures_finalists(found.wanted)
    for more, precision in (({"int8": True}, "int8"), ({"latency": "a/board.csv"}, "fp32")):
        found.wanted = replace(found.wanted, **more)
        assert not run._measures_finalists(found.wanted)
        fast, slow = sorted(found.candidates, key=lambda label: found.field.times[found.candidates[label]])[:2]
        models = [
            SimpleNamespace(label=label, digest=label, size=8, parameters=2, gflops=1.0) for label in (slow, fast)
        ]
        known = run._known_latency(found, SimpleNamespace(models=models))
        times = [found.field.times[found.candidates[label]] for label in (slow, fast)]
        assert [(row.model, row.p50, row.ratio) for row in known.measurements] == [
            (slow, times[0], 1.0),
            (fast, times[1], times[1] / times[0]),
        ]
        assert {row.way for row in known.measurements} == {f"onnxruntime {precision} 1 thread"}
        assert latency.Latency.from_plain(json.loads(json.dumps(known.to_plain()))) == known
        found.wanted = replace(found.wanted, int8=False)


def test_a_cluster_is_used_as_a_whole(monkeypatch):
    nodes = [
        {"Alive": alive, "Resources": {"CPU": count, "GPU": gpus}}
        for alive, count, gpus in ((True, 5, 1), (True, 4, 0), (False, 64, 8))
    ]
    ray = SimpleNamespace(nodes=lambda: nodes, cluster_resources=lambda: {"CPU": 9, "GPU": 1})
    monkeypatch.setattr(cluster, "connect", lambda address: ray)
    found = [cluster.slots("auto", *each) for each in ((1, 0, None), (2, 0, None), (2, None, None), (2, None, "cpu"))]
    assert found == [9, 4, 1, 4]
    assert cluster.slots("auto", 8, 0, None) == 1 and cluster.slots("auto", 0, 0, None) == 2


def test_too_few_to_choose_from(halving):
    labels = [*halving(width)[0].candidates]
    only = labels[len(labels) // 2]
    found, _ = halving(lambda label: width(label) if label == only else None)
    found.run()
    with pytest.raises(ConfigError, match="1 of 8 candidates were trained, too few to choose from; raise hours="):
        run._choose_finalists(found, found.clock)


# The command ----------------------------------------------------------------------------------------------------------


def finished(folder):
    """Return the records of finished runs, by their files."""
    found = {path: path.read_bytes() for path in folder.rglob("run.json")}
    return {path: content for path, content in found.items() if json.loads(content)["status"] == "finished"}


def alive(mark):
    """Return the processes that have a word in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes() and b"defunct" not in path.with_name("cmdline").read_bytes():
                found.append(path.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_command_killed_and_continued(tmp_path):
    """Killed twenty times at random moments: what was finished stays as it is, and no process is left."""
    words = "data=shapes.yaml budget=50ms imgsz=64 hours=0.2 bases=yolov8 backbones=csplite_100 batch=16 fraction=0.2"
    command = [sys.executable, "-m", "yolo_lite", "choose", *words.split(), "name=mine", "project=out", "epochs=3"]
    folder, before = tmp_path / "out/mine", {}
    mark = f"YOLO_LITE_TEST={tmp_path}"
    environment = {**os.environ, "YOLO_LITE_TEST": str(tmp_path)}
    generator = random.Random(0)
    moments = [generator.uniform(4, 45) for _ in range(20)]
    for seconds in (*moments, None):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            _, said = process.communicate(timeout=seconds)
            assert process.returncode == 0, said
        except subprocess.TimeoutExpired:
            process.kill()  # only the command; its workers must notice
            process.wait()
            process.stderr.close()
        until = time.monotonic() + 60
        while alive(mark.encode()) and time.monotonic() < until:
            time.sleep(0.5)
        assert alive(mark.encode()) == []
        after = finished(folder)
        assert before.items() <= after.items()
        before = after
    page = (folder / "finals/report.html").read_text("utf-8")
    searched = reported.read(folder / "finals")
    assert "The search" in page and searched is not None and len(searched.rows) >= 8
    assert sum(row.outcome == "finalist" for row in searched.rows) >= 2
    # after such a short training there may be no recommended model, but there is always a sentence
    assert json.loads((folder / "finals/results.json").read_text("utf-8"))["recommendation"]["sentence"]
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
def test_a_search_on_a_cluster(tmp_path):
    ray = pytest.importorskip("ray")
    words = "data=shapes.yaml budget=50ms imgsz=64 hours=0.1 bases=yolov8 backbones=csplite_100 batch=16 fraction=0.1"
    command = [sys.executable, "-m", "yolo_lite", "choose", *words.split(), "project=out", "epochs=1", "ray=auto"]
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        process = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "RAY_ADDRESS": address}, capture_output=True, text=True
        )
    finally:
        ray.shutdown()
    assert process.returncode == 0, process.stderr
    assert "complete;" in process.stderr and (tmp_path / "out/choose/finals/report.html").is_file()
