"""`yolo-lite compare` as a command: killed and resumed, with failing runs, and on a Ray cluster."""

import csv
import errno
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import CHROMIUM, in_chromium
from conftest import run

from yolo_lite import ConfigError
from yolo_lite.commands import main
from yolo_lite.compare import worker
from yolo_lite.compare.plan import make_plan
from yolo_lite.compare.prepare import prepare
from yolo_lite.compare.process import Job
from yolo_lite.compare.progress import Progress
from yolo_lite.compare.record import Attempt, Start
from yolo_lite.compare.run import execute

pytestmark = pytest.mark.usefixtures("few_resamples", "few_plots")  # has no effect on commands in other processes
COMMAND = Path(sys.executable).with_name("yolo-lite")
NUMBERS = {"epochs": 2, "imgsz": 64, "batch": 4, "nbs": 4}
MODELS = ("yolov8n", "yolov8n-mnv3")
SETTINGS = ["models=yolov8n,yolov8n-mnv3", "seeds=0,1", "epochs=2", "imgsz=64", "batch=4", "nbs=4", "latency=False"]
TIMES = {"train_seconds", "wall_seconds", "evaluate_seconds", "evaluate_cpu_seconds", "attempts", "peak_memory"}


def arguments(tiny_data, folder, *more):
    words = (f"data={tiny_data}", *SETTINGS, f"project={folder.parent}", f"name={folder.name}", *more)
    return [COMMAND, "compare", *{word.split("=")[0]: word for word in words}.values()]  # the last value of a key wins


def plan_of(folder, data, **more):
    """Plan in this process what `arguments` tells the command."""
    given = dict(word.split("=", 1) for word in SETTINGS) | {"latency": False, **NUMBERS, **more}
    return make_plan({**given, "data": str(data), "project": str(folder.parent), "name": folder.name})


@pytest.fixture(scope="module")
def whole(tiny_data, tmp_path_factory):
    """Return the folder of an uninterrupted comparison with two runs in parallel."""
    folder = tmp_path_factory.mktemp("compare") / "whole"
    process = run(*arguments(tiny_data, folder, "parallel=2"), cwd=folder.parent)
    assert "4/4 runs, 8/8 epochs, 0 min 00 s left" in process.stdout
    assert "yolov8n-mnv3 seed 1: finished, mAP50 " in process.stdout
    return folder


def record(folder, model, seed):
    return json.loads((folder / "runs" / model / str(seed) / "run.json").read_text())


def starts(folder, model, seed):
    """Where a run was started each time."""
    return [Start(**each["from"]) for each in record(folder, model, seed)["attempts"]]


def epochs(folder, model, seed):
    """The rows of a run's table without the time column."""
    with open(folder / "runs" / model / str(seed) / "results.csv") as file:
        return [{key: value for key, value in row.items() if key != "time"} for row in csv.DictReader(file)]


def without_times(run):
    run["metrics"].pop("checkpoint_bytes")  # Ultralytics writes the folder's name and the time into it
    return {key: value for key, value in run.items() if key not in TIMES}


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_same(folder, other, model, seed):
    """Two runs are the same in all but times, down to the bytes of the weights' figures."""
    assert epochs(folder, model, seed) == epochs(other, model, seed)
    assert without_times(record(folder, model, seed)) == without_times(record(other, model, seed))
    for name in ("images.npz", "samples.json"):
        first, second = (each / "runs" / model / str(seed) / name for each in (folder, other))
        assert first.read_bytes() == second.read_bytes(), name


def test_what_a_run_leaves(whole):
    for model in MODELS:
        for seed in (0, 1):
            run = record(whole, model, seed)
            assert (run["status"], run["model"], run["seed"]) == ("finished", model, seed)
            assert (
                run["command"].startswith(f"yolo train model={model}.yaml data=/") and f"seed={seed}" in run["command"]
            )
            assert run["metrics"]["images"] == 8 and run["peak_memory"] > 10**8
            assert set(run["metrics"]) >= {"P", "R", "F1", "mAP50", "mAP50-95", "classes"}
            assert run["versions"]["ultralytics"] and run["machine"]["threads"] >= 1
            rows = epochs(whole, model, seed)
            assert [row["epoch"] for row in rows] == ["1", "2"]
            assert float(rows[-1]["metrics/mAP50-95(B)"]) == pytest.approx(run["metrics"]["mAP50-95"], abs=2e-3)
    assert record(whole, "yolov8n", 0)["settings"] == record(whole, "yolov8n-mnv3", 1)["settings"]
    assert epochs(whole, "yolov8n", 0) != epochs(whole, "yolov8n", 1)
    for name in ("report.html", "results.csv", "results.json", "summary.md", "samples/3.jpg"):
        assert (whole / name).stat().st_size > 500, name


def test_a_second_time_trains_nothing(whole, tiny_data, capfd):
    before = content(whole / "runs")
    execute(plan_of(whole, tiny_data, parallel=2))
    said = "".join(capfd.readouterr())
    assert "4 runs read" in said and "started" not in said and content(whole / "runs") == before


def test_a_latency_that_fails_leaves_the_report(whole, tiny_data, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    for name in ("report.html", "results.json"):
        (folder / name).unlink()
    plan = plan_of(folder, tiny_data, latency=True, runtimes="onnxruntime")

    def fail(*arguments, **more):
        raise RuntimeError("cannot be exported")

    monkeypatch.setattr("yolo_lite.compare.latency.measure", fail)
    with pytest.raises(ConfigError, match="latency was not measured: cannot be exported; .* does not have it"):
        execute(plan)
    assert (folder / "report.html").exists() and "Latency has not been measured" in (folder / "summary.md").read_text()


def kill_during(command, folder, model, seed):
    """Start a command; SIGKILL it, and nothing else, when a run has its first checkpoint. Return what was finished."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    place = folder / "runs" / model / str(seed)
    last, patience = place / "weights" / "last.pt", time.monotonic() + 600
    while not last.exists() or last.stat().st_size < 10**6:
        assert process.poll() is None and time.monotonic() < patience
        time.sleep(0.02)
    time.sleep(0.1)  # wait until it is written
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (place / "run.json").exists(), "it was too fast for us"
    return {path.parent: content(path.parent) for path in folder.glob("runs/*/*/run.json")}


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_and_continued(whole, tiny_data, tmp_path):
    """In the last of four runs; the others are finished."""
    folder = tmp_path / "killed"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "runs" / "yolov8n-mnv3" / "1")
    shutil.rmtree(folder / "plots")
    for name in ("report.html", "results.csv", "results.json", "summary.md"):
        (folder / name).unlink()
    command = arguments(tiny_data, folder)
    finished = kill_during(command, folder, "yolov8n-mnv3", 1)
    assert len(finished) == 3
    goes_on_after_a_kill(command, folder, whole, finished)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_twice_and_continued(whole, tiny_data, tmp_path):
    folder = tmp_path / "killed"
    command = arguments(tiny_data, folder)
    finished = kill_during(command, folder, "yolov8n-mnv3", 0)
    assert len(finished) == 1
    # restart from scratch, killed again in the last run
    finished |= kill_during([*command, "restart=True"], folder, "yolov8n-mnv3", 1)
    assert len(finished) == 3
    goes_on_after_a_kill(command, folder, whole, finished)
    assert starts(folder, "yolov8n-mnv3", 0) == [Start("fresh"), Start("fresh", reason="restart=True")]


def goes_on_after_a_kill(command, folder, whole, finished):
    """Let a comparison that was killed in its last run go on; it ends as the one that nothing interrupted."""
    process = run(*command, cwd=folder.parent)
    assert "yolov8n-mnv3 seed 1: resumed" in process.stdout
    for place, files in finished.items():
        assert content(place) == files, place
    for model, seed in (("yolov8n", 0), ("yolov8n-mnv3", 0), ("yolov8n", 1)):
        assert_same(folder, whole, model, seed)
    resumed, uninterrupted = (record(each, "yolov8n-mnv3", 1) for each in (folder, whole))
    assert resumed["status"] == "resumed" and starts(folder, "yolov8n-mnv3", 1)[-1] == Start("resume", epoch=1)
    for key in ("settings", "command", "versions", "machine"):
        assert resumed[key] == uninterrupted[key]
    rows = epochs(folder, "yolov8n-mnv3", 1)
    assert rows[0] == epochs(whole, "yolov8n-mnv3", 1)[0] and [row["epoch"] for row in rows] == ["1", "2"]
    tables = [list(csv.DictReader((each / "results.csv").open())) for each in (folder, whole)]
    assert [(row["model"], row["seed"], row["epochs"]) for row in tables[0]] == [
        (row["model"], row["seed"], row["epochs"]) for row in tables[1]
    ]
    page = (folder / "report.html").read_text("utf-8")
    assert "resumed from epoch 1" in page
    if CHROMIUM:
        found, said = in_chromium(page, folder.parent, 1366)
        assert said == [] and found["ready"] == "true" and found["empty"] == 0
        assert found["plots"] == len(list((folder / "plots").glob("*.svg"))) > 10
        assert found["sections"] == ["table", "plots", "classes", "samples", "runs"]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_is_reported_and_the_rest_goes_on(whole, tiny_data, tmp_path, monkeypatch, capfd):
    """As the test below, with processes that train nothing: one kills itself, the other has trained already."""
    from yolo_lite.compare import local

    folder = tmp_path / "failing"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "runs" / "yolov8n-mnv3" / "0")
    (folder / "runs" / "yolov8n-mnv3" / "1" / "run.json").unlink()
    opened, kills = local.open_process, "import os, signal; input(); os.kill(os.getpid(), signal.SIGKILL)"

    def open_process(place, keep):
        if place.parts[-2:] == ("yolov8n-mnv3", "0"):
            return subprocess.Popen([sys.executable, "-c", kills], stdin=subprocess.PIPE, start_new_session=True)
        return opened(place, keep)

    monkeypatch.setattr(local, "open_process", open_process)
    outcome = execute(plan_of(folder, tiny_data))
    said = "".join(capfd.readouterr())
    assert [(run.model.label, run.seed) for run in outcome.failed] == [("yolov8n-mnv3", 0)]
    assert "yolov8n-mnv3 seed 0: FAILED: its process was ended by signal SIGKILL" in said
    assert "yolov8n-mnv3 seed 1: finished" in said
    assert starts(folder, "yolov8n-mnv3", 1)[-1] == Start("evaluate") and len(outcome.finished) == 3
    assert record(folder, "yolov8n-mnv3", 1)["metrics"] == record(whole, "yolov8n-mnv3", 1)["metrics"]
    assert "ended by signal SIGKILL" in (folder / "summary.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the run's process in /proc")
def test_a_failed_run_is_reported_and_the_rest_goes_on(whole, tiny_data, tmp_path):
    """The run's own process is killed, as the system does when memory runs out."""
    folder = tmp_path / "failing"
    shutil.copytree(whole, folder)
    for seed in (0, 1):
        shutil.rmtree(folder / "runs" / "yolov8n-mnv3" / str(seed))
    command = [str(each) for each in arguments(tiny_data, folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (folder / "runs" / "yolov8n-mnv3" / "0" / "args.yaml").exists():
        assert process.poll() is None
        time.sleep(0.05)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1, said
    assert "yolov8n-mnv3 seed 0: FAILED: its process was ended by signal SIGKILL" in said
    assert "yolov8n-mnv3 seed 1: finished" in said
    assert "1 run failed: yolov8n-mnv3 seed 0; the same command tries again" in said
    assert_same(folder, whole, "yolov8n-mnv3", 1)
    assert "ended by signal SIGKILL" in (folder / "summary.md").read_text("utf-8")
    run(*command, cwd=tmp_path)
    assert_same(folder, whole, "yolov8n", 0)
    assert record(folder, "yolov8n-mnv3", 0)["status"] in ("finished", "resumed")


def test_bad_input_in_one_sentence(tiny_data, tmp_path):
    process = run(*arguments(tiny_data, tmp_path / "x", "epoch=3"), cwd=tmp_path, check=False)
    lines = [line for line in process.stdout.splitlines() if line.startswith("yolo-lite:")]
    assert process.returncode == 1 and lines == ["yolo-lite: unknown setting epoch=; did you mean 'epochs'?"]
    assert not (tmp_path / "x").exists() and "Traceback" not in process.stdout


def test_report_again(whole, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "copy", ignore=shutil.ignore_patterns("report.html", "weights", "log.txt"))
    assert main(["compare", str(tmp_path / "copy")]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last and last in (tmp_path / "copy" / "summary.md").read_text("utf-8").splitlines()
    assert (tmp_path / "copy" / "report.html").exists()


def test_without_weights_runs_are_finished(whole, tiny_data, tmp_path, capfd):
    from yolo_lite.compare import collect

    assert collect.copy(whole, tmp_path / "copy") == 4
    before = content(tmp_path / "copy" / "runs")
    execute(plan_of(tmp_path / "copy", tiny_data))
    said = "".join(capfd.readouterr())
    assert "4 runs read" in said and "started" not in said and content(tmp_path / "copy" / "runs") == before


def test_two_commands_do_not_share_a_folder(whole, monkeypatch):
    from yolo_lite import ConfigError
    from yolo_lite.compare import local

    monkeypatch.setattr(local, "PATIENCE", 0.5)
    with (
        local.locked(whole),
        pytest.raises(ConfigError, match=f"another command \\(process {os.getpid()}\\) is running here"),
        local.locked(whole),
    ):
        pass


def test_a_folder_that_another_command_changed_meanwhile_is_refused(tiny_data, tmp_path, monkeypatch):
    from yolo_lite.compare.plan import write_folder

    monkeypatch.chdir(tmp_path)
    settings = {"data": str(tiny_data), "models": "yolov8n", "seeds": 0, "imgsz": 32, "epochs": 1, "latency": False}
    plan, other = make_plan(settings), make_plan(settings, {"epochs": 2})
    write_folder(other)
    before = (other.folder / "comparison.json").read_bytes()
    with pytest.raises(ConfigError, match="holds another comparison: epochs=2, found 1"):
        execute(plan)
    assert (other.folder / "comparison.json").read_bytes() == before


def test_a_full_disk_fails_one_run_only(whole, tiny_data, tmp_path, monkeypatch):
    """The run cannot write its record, nor can the command for it; the report is written all the same."""
    from yolo_lite.compare import local

    shutil.copytree(whole, tmp_path / "full")
    shutil.rmtree(tmp_path / "full" / "runs" / "yolov8n" / "1")
    moved = os.replace

    def full(draft, path):
        if path.name == "run.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        moved(draft, path)

    monkeypatch.setattr(os, "replace", full)
    ends = [sys.executable, "-c", "raise SystemExit(1)"]
    monkeypatch.setattr(local, "open_process", lambda folder, keep: subprocess.Popen(ends, stdin=subprocess.PIPE))
    outcome = execute(plan_of(tmp_path / "full", tiny_data))
    assert [(run.model.label, run.seed) for run in outcome.failed] == [("yolov8n", 1)] and len(outcome.finished) == 3
    assert "- yolov8n, seed 1: not finished yet." in (tmp_path / "full" / "summary.md").read_text()


def test_a_run_that_was_trained_is_only_evaluated(whole, tiny_data, tmp_path):
    folder = tmp_path / "trained"
    shutil.copytree(whole, folder)
    (folder / "runs" / "yolov8n" / "1" / "run.json").unlink()
    outcome = execute(plan_of(folder, tiny_data))
    found, before = record(folder, "yolov8n", 1), record(whole, "yolov8n", 1)
    assert not outcome.failed and starts(folder, "yolov8n", 1)[-1] == Start("evaluate")
    assert found["status"] == "finished" and found["metrics"] == before["metrics"]
    assert "peak_memory" in before and "peak_memory" not in found  # the peak memory of the training is unknown


@pytest.mark.slow
def test_ray(whole, tiny_data, tmp_path):
    ray = pytest.importorskip("ray")
    folder = tmp_path / "ray"
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        process = run(*arguments(tiny_data, folder, "ray=auto", "seeds=0"), cwd=tmp_path, RAY_ADDRESS=address)
    finally:
        ray.shutdown()
    assert "2/2 runs" in process.stdout
    for model in MODELS:
        assert_same(folder, whole, model, 0)


# Where a run starts ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(whole, tmp_path):
    """Return a run's folder, its job, and a function that rewrites its checkpoint as of a given number of epochs."""
    import torch

    place = tmp_path / "run"
    shutil.copytree(whole / "runs" / "yolov8n" / "0", place)
    (place / "run.json").unlink()
    job = Job(str(place), "yolov8n", "yolov8n.yaml", 0, command="", data="elsewhere.yaml", settings={})

    def after(done):
        checkpoint = torch.load(place / "weights" / "last.pt", weights_only=False)
        checkpoint["train_args"]["save_dir"] = "/where/it/was"
        checkpoint |= {"epoch": done - 1, "ema": checkpoint["model"], "optimizer": {}}
        torch.save(checkpoint, place / "weights" / "last.pt")

    return place, job, after


def test_resumes_from_its_checkpoint(stopped):
    import torch

    place, job, after = stopped
    after(1)
    assert prepare(job) == Start("resume", epoch=1)
    assert (place / "results.csv").read_text().count("\n") == 2  # the second epoch was not in the checkpoint
    moved = torch.load(place / "weights" / "last.pt", weights_only=False)["train_args"]
    assert (moved["data"], moved["save_dir"]) == ("elsewhere.yaml", str(place))


def test_evaluates_only_when_all_epochs_are_done(stopped):
    place, job, after = stopped
    assert prepare(replace(job, restart=True)) == Start("evaluate")
    after(2)
    assert prepare(job) == Start("evaluate")
    assert (place / "results.csv").read_text().count("\n") == 3


def test_starts_afresh(stopped):
    place, job, after = stopped
    (place / "attempts.json").write_text("[]")
    after(1)
    last = place / "weights" / "last.pt"
    torn = last.read_bytes()[: last.stat().st_size // 2]
    last.write_bytes(torn)
    start = prepare(job)
    assert start.kind == "fresh" and start.reason.startswith("the checkpoint is incomplete")
    assert sorted(path.name for path in place.iterdir()) == ["attempts.json", "log.txt"]
    last.parent.mkdir()
    last.write_bytes(torn)
    (place / "results.csv").write_text("epoch\n")
    assert "the checkpoint is incomplete" in prepare(job).reason
    (place / "args.yaml").write_text("")
    assert prepare(job) == Start("fresh", reason="it was ended before its first checkpoint")
    assert prepare(job) == Start("fresh")


def test_starts_afresh_without_the_first_epochs(stopped):
    place, job, after = stopped
    after(1)
    (place / "results.csv").unlink()
    assert prepare(job).reason.startswith("results.csv")


def test_time_is_added_up_over_resumes(tmp_path):
    (tmp_path / "results.csv").write_text("epoch,time\n1,10.5\n2,12\n3,24\n")
    again = Start("resume", epoch=1)
    starts = [Start("fresh"), Start("resume", epoch=2), Start("fresh", reason="torn"), again, again]
    attempts = [Attempt("", start) for start in starts]
    assert worker.train_seconds(tmp_path / "results.csv", attempts[:1]) == 24
    assert worker.train_seconds(tmp_path / "results.csv", attempts) == 10.5 + 24


def test_statistics_are_recomputed_after_the_last_epoch():
    """The means and variances over eight batches replace the running ones of the averaged model."""
    import torch

    norm = torch.nn.BatchNorm2d(3).eval()
    norm.running_mean.fill_(7)
    loader = [{"img": torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(k)) + k} for k in range(20)]
    trainer = SimpleNamespace(epoch=0, epochs=2, train_loader=loader, ema=SimpleNamespace(ema=norm))
    trainer.preprocess_batch = lambda batch: {"img": 10 * batch["img"]}
    worker.recalibrate(trainer)
    assert bool((norm.running_mean == 7).all())
    trainer.epoch = 1
    worker.recalibrate(trainer)
    images = torch.stack([10 * batch["img"] for batch in loader[:8]])  # (batches, B, C, H, W)
    torch.testing.assert_close(norm.running_mean, images.mean((0, 1, 3, 4)))
    torch.testing.assert_close(norm.running_var, torch.stack([each.var((0, 2, 3)) for each in images]).mean(0))
    assert not norm.training and norm.momentum == 0.1


def test_recalibration_changes_statistics_only(tiny_data, tmp_path):
    import torch

    states = []
    for recalibrated in (False, True):
        folder = tmp_path / str(recalibrated)
        settings = {**NUMBERS, "plots": False, "workers": 0, "device": "cpu"}
        job = Job(str(folder), "m", "yolov8n.yaml", 0, "", str(tiny_data), settings, recalibrate=recalibrated)
        worker.train(job, Start("fresh"))
        checkpoint = torch.load(folder / "weights" / "last.pt", weights_only=False)
        states.append(checkpoint["model"].state_dict())
    differ = {name for name, value in states[0].items() if not torch.equal(value, states[1][name])}
    assert differ == {name for name in states[0] if "running_" in name or "num_batches" in name}


def test_time_left(tmp_path):
    Run = namedtuple("Run", "folder")
    runs = [Run(tmp_path / str(number)) for number in range(4)]
    comparison = namedtuple("Comparison", "train")({"epochs": 10})
    plan = namedtuple("Plan", "runs comparison")(runs, comparison)
    with Progress(plan, io.StringIO()) as progress:
        assert progress.left(5) is None
        runs[0].folder.mkdir()
        (runs[0].folder / "results.csv").write_text("epoch\n1\n2\n3\n4\n5\n")
        assert progress.left(50) == pytest.approx(50 / 5 * 35)
        progress.over.add(runs[1])  # failed at once: over without a trained epoch
        progress.failed.append(runs[1])
        assert progress.left(50) == pytest.approx(50 / 5 * 25)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_peak_memory_is_the_runs_own():
    code = "from yolo_lite.compare import worker; print(worker._peak_memory()[0])"
    large = f"import subprocess, sys; x = bytearray(600_000_000); subprocess.run([sys.executable, '-c', {code!r}])"
    found = subprocess.run([sys.executable, "-c", large], capture_output=True, text=True, check=True).stdout
    assert 10**7 < int(found) < 4 * 10**8


@pytest.mark.parametrize(
    "done, fails, order",
    [
        (1, False, ["open 0", "begin 0", "end 0", "open 1", "begin 1", "end 1"]),
        (2, False, ["open 0", "begin 0", "open 1", "end 0", "begin 1", "end 1"]),
        (2, True, ["open 0", "begin 0", "no room", "open 1", "end 0", "begin 1", "end 1"]),
    ],
)
def test_the_next_process_opens_in_the_last_epoch(done, fails, order, tiny_data, tmp_path, monkeypatch):
    from yolo_lite.compare import local, process

    monkeypatch.chdir(tmp_path)
    settings = {"data": str(tiny_data), "models": "yolov8n", "seeds": "0,1", "imgsz": 32, "epochs": 3}
    plan = make_plan({**settings, "latency": False})
    seen, processes, begin = [], [], process.begin

    def let_end(process):
        process.stdin.write(b"\n")
        process.stdin.flush()

    def opened(folder, keep):
        if fails and seen == ["open 0", "begin 0"]:
            seen.append("no room")
            raise OSError(28, "No space left on device")
        seen.append(f"open {folder.name}")
        if processes and done == 2:  # the first run, in its last epoch, ends once the next process is open
            let_end(processes[0])
        command = [sys.executable, "-c", "input(); input()"]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
        return processes[-1]

    def begun(process, job):
        seen.append(f"begin {job.seed}")
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if job.seed == 0:
            (folder / "results.csv").write_text("epoch\n" + "1\n" * done)
        begin(process, job)
        if job.seed == 1 or done == 1:
            let_end(process)

    def ended(progress, run, record):
        progress.over.add(run)
        seen.append(f"end {run.seed}")

    monkeypatch.setattr(local, "open_process", opened)
    monkeypatch.setattr(local, "begin", begun)
    monkeypatch.setattr(Progress, "ended", ended)
    assert len(execute(plan).failed) == 2
    assert seen == order


def test_a_process_whose_turn_never_came_writes_nothing(tmp_path):
    from yolo_lite.compare.process import open_process

    process = open_process(tmp_path / "run")
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["log.txt"]
    assert (tmp_path / "run" / "log.txt").read_text() == ""


@pytest.fixture
def endless(tiny_data, tmp_path):
    """Return the job of a very long run, and a function that waits until its process has trained an epoch."""
    settings = {"epochs": 1000, "imgsz": 64, "batch": 4, "plots": False}
    job = Job(str(tmp_path / "run"), "m", "yolov8n.yaml", 0, command="", data=str(tiny_data), settings=settings)

    def wait_for(process):
        patience = time.monotonic() + 120
        while not (tmp_path / "run" / "results.csv").exists():
            assert process.poll() is None and time.monotonic() < patience
            time.sleep(0.1)

    return job, wait_for


@pytest.mark.slow  # the test below, with a killed command, covers it
def test_a_run_ends_when_its_standard_input_closes(endless):
    from yolo_lite.compare.process import start

    job, wait_for_training = endless
    process = start(job)
    wait_for_training(process)
    process.stdin.close()
    process.wait(timeout=60)
    assert process.returncode != 0 and not Path(job.folder, "run.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="hands a file descriptor on")
def test_a_run_ends_with_its_command(endless):
    """The run holds one end of a pipe: that it has ended is what the other end says."""
    job, wait_for_training = endless
    ours, runs = os.pipe()
    code = (
        "import time\nfrom pathlib import Path\nfrom yolo_lite.compare import process as runs\n"
        f"job = runs.{job!r}\nruns.begin(runs.open_process(Path(job.folder), [{runs}]), job)\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], pass_fds=[runs])
    os.close(runs)
    wait_for_training(parent)
    parent.kill()
    parent.wait()
    has_ended, _, _ = select.select([ours], [], [], 30)
    assert has_ended and os.read(ours, 1) == b""
    os.close(ours)
    assert not Path(job.folder, "run.json").exists()
