"""Random model YAMLs: each is built or refused, within seconds and a gigabyte, without changing any other state."""

import json
import os
import sys
from collections import Counter

import pytest
from conftest import ROOT, run

COUNT = 500
ORDINARY = 15  # seconds per kind in an ordinary run
LIMIT = 3600  # time limit in seconds for all seeds of a kind, on a slow machine
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs fork and resource limits")


def fuzz(kind, folder, seconds):
    """Return what came of the seeds of one kind."""
    script = ROOT / "tests" / "fuzzing.py"
    output = run(sys.executable, script, kind, 0, COUNT, seconds, cwd=folder, limit=LIMIT, PYTHONPATH=str(ROOT)).stdout
    found = [json.loads(line) for line in output.splitlines() if line.startswith('{"seed"')]
    assert found, output[-3000:]
    return found


def check(kind, found):
    wrong = [each for each in found if each["outcome"] not in ("built", "refused", "stock") or each["seconds"] > 5]
    assert not wrong, json.dumps(wrong[:3], indent=1)
    outcomes = Counter(each["outcome"] for each in found)
    if kind == "valid":
        assert outcomes["stock"] == 0 and outcomes["built"] >= 0.9 * len(found), outcomes
    return outcomes


@pytest.mark.parametrize("kind", ["valid", "changed"])
def test_some(kind, tmp_path):
    check(kind, fuzz(kind, tmp_path, ORDINARY))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["valid", "changed"])
def test_all(kind, tmp_path):
    found = fuzz(kind, tmp_path, 1e9)
    assert len(found) == COUNT
    outcomes = check(kind, found)
    assert kind == "valid" or min(outcomes["built"], outcomes["refused"]) > 25
