"""Concurrent model building: threads, forked and spawned processes, and subinterpreters."""

import importlib.util
import sys
import textwrap

import pytest
from conftest import ROOT, python, run

NAMES = ["yolov8n-mnv3.yaml", "yolov8n-ghostnet.yaml", "yolo11n-mnv4-extradw.yaml", "yolo26n-lite.yaml", "yolov8n.yaml"]
BUILD = f"""
    import hashlib, sys
    NAMES = {NAMES}
    def build(number):
        import torch
        torch.set_num_threads(1)
        from ultralytics import YOLO
        model = YOLO(NAMES[number % len(NAMES)], verbose=False).model
        act = {{type(each).__name__ for each in model.modules() if not list(each.children())}}
        shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
        return number % len(NAMES), hashlib.sha256(repr((shapes, sorted(act))).encode()).hexdigest()
    def check(found, many):
        assert len(found) == many, found
        kinds = dict(found)
        assert len(kinds) == len(NAMES) == len(set(found)) == len(set(kinds.values())), found
        print("ALL BUILD")
"""


def together(code, folder):
    (folder / "job.py").write_text(textwrap.dedent(BUILD) + textwrap.dedent(code))
    return run(sys.executable, "job.py", cwd=folder, PYTHONPATH=ROOT)


def test_twenty_threads_at_once(tmp_path):
    """They import Ultralytics, and find our modules, at the same time, too."""
    code = """
        import threading
        found, gate = [], threading.Barrier(20)
        def work(number):
            gate.wait()
            found.append(build(number))
        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(found, 20)
    """
    assert "ALL BUILD" in together(code, tmp_path).stdout


OTHERS = (("fork", False), ("spawn", True), ("forkserver", False), ("forkserver", True))


@pytest.mark.parametrize(
    ("how", "imported"),
    [
        ("fork", True), ("spawn", False),
        *(pytest.param(how, imported, marks=pytest.mark.slow) for how, imported in OTHERS),
    ],
)  # fmt: skip
def test_processes(how, imported, tmp_path):
    """The parent has built a model before, or has not."""
    if how != "spawn" and sys.platform == "win32":
        pytest.skip("Windows only spawns")
    code = f"""
        import multiprocessing
        if __name__ == "__main__":
            if {imported}:
                build(0)
            with multiprocessing.get_context({how!r}).Pool(2) as pool:
                check(pool.map(build, range(5), chunksize=1), 5)
    """
    assert "ALL BUILD" in together(code, tmp_path).stdout


def test_a_fork_while_another_thread_parses(tmp_path):
    """The lock that the thread holds must not stay locked in the child.

    The thread makes modules and runs none: a convolution holds locks of oneDNN, which nobody unlocks in a child.
    """
    code = """
        import multiprocessing, threading
        build(0)
        from ultralytics.nn.tasks import parse_model, yaml_model_load
        ended = threading.Event()
        def parse():
            while not ended.is_set():
                parse_model(yaml_model_load(NAMES[0]), 3, verbose=False)
        thread = threading.Thread(target=parse)
        thread.start()
        context, found = multiprocessing.get_context("fork"), []
        try:
            for number in range(5):
                queue = context.SimpleQueue()
                child = context.Process(target=lambda: queue.put(build(number)), daemon=True)
                child.start()
                child.join(120)
                assert child.exitcode == 0, child.exitcode
                found.append(queue.get())
        finally:
            ended.set()
            thread.join()
        check(found, 5)
    """
    if sys.platform == "win32":
        pytest.skip("Windows only spawns")
    assert "ALL BUILD" in together(code, tmp_path).stdout


INTERPRETERS = [name for name in ("_interpreters", "_xxsubinterpreters") if importlib.util.find_spec(name)]


@pytest.mark.skipif(not INTERPRETERS, reason="this Python has no subinterpreters")
@pytest.mark.parametrize("before", ["", "import ultralytics.nn.tasks"], ids=["first", "beside the main one"])
def test_a_subinterpreter_starts_and_imports_go_on(before, tmp_path):
    """Also where what we need does not load there; the package stands in for Ultralytics, which asks for numpy."""
    package = tmp_path / "ultralytics"
    for folder in (package, package / "nn", package / "data"):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (package / "nn" / "tasks.py").write_text("def parse_model(d, ch, verbose=True):\n    return 'stock'\n")
    (package / "data" / "utils.py").touch()
    inner = "import json, ultralytics.nn.tasks, ultralytics.data.utils; print(ultralytics.nn.tasks.parse_model({}, 3))"
    code = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        {before}
        import {INTERPRETERS[0]} as interpreters
        number = interpreters.create()
        inner = "import sys; sys.path.insert(0, {str(tmp_path)!r}); import yolo_lite; " + {inner!r}
        failed = interpreters.run_string(number, inner)
        assert failed is None, failed
        interpreters.destroy(number)
        print("GOES ON")
    """
    process = python(textwrap.dedent(code), tmp_path, PYTHONPATH=ROOT)
    said = process.stdout.splitlines()
    assert "stock" in said and said[-1] == "GOES ON", process.stdout
