"""Released checkpoints by bare name, and the script that creates them."""

import functools
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, run
from ultralytics import YOLO
from ultralytics.utils import SETTINGS as HOST
from ultralytics.utils import downloads

from yolo_lite import ConfigError, models
from yolo_lite.files import read_json
from yolo_lite.ultralytics_hooks import released
from yolo_lite.weights import cache

NAME = "yolo26n-lite.pt"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Change to a new working folder with an isolated cache next to it; return the folder."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.asked.append(self.path)


@pytest.fixture
def release(place, tmp_path, monkeypatch):
    """Serve a released checkpoint from a local server; yield its file, its entry, and the list of requested paths."""
    (tmp_path / "assets").mkdir()
    file = tmp_path / "assets" / NAME
    YOLO("yolo26n-lite.yaml").save(file)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=file.parent))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    content = file.read_bytes()
    url = f"https://127.0.0.1:{server.server_port}/{NAME}"
    row = released.Release(url, len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(released, "releases", lambda: {NAME: row})
    monkeypatch.setattr(  # the server does not support TLS
        released, "urlopen", lambda url, timeout: urllib.request.urlopen(url.replace("https", "http"), timeout=timeout)
    )
    yield file, row, server.asked
    server.shutdown()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_is_shipped_names_https_and_a_digest():
    for name, row in released.releases().items():
        assert name.endswith(".pt") and row.url.startswith("https://") and row.url.endswith(f"/{name}")
        assert row.size > 10**5 and len(bytes.fromhex(row.sha256)) == 32


def test_by_its_bare_name_once_from_the_network(release, tmp_path):
    file, _, asked = release
    for _ in range(2):
        assert YOLO(NAME).model.yaml["yaml_file"].endswith("yolo26n-lite.yaml")
    assert asked == [f"/{NAME}"]
    assert (tmp_path / "cache" / NAME).read_bytes() == file.read_bytes()
    assert models.find(NAME) == str(tmp_path / "cache" / NAME)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [NAME]


def test_a_file_that_is_here_goes_before(release, place):
    YOLO("yolov8n.yaml").save(place / NAME)  # somebody's own: another length
    assert released.find(NAME) is None and models.find(NAME) == str(place / NAME)
    assert YOLO(NAME).model.yaml["yaml_file"] == "yolov8n.yaml" and release[2] == []


@pytest.mark.parametrize("where", ["cache", "here"])
def test_one_flipped_byte_is_refused(release, tmp_path, where):
    (tmp_path / where).mkdir(exist_ok=True)
    shutil.copy(release[0], tmp_path / where / NAME)
    assert released.find(NAME) == (tmp_path / "cache" / NAME if where == "cache" else None)
    flip(tmp_path / where / NAME)
    with pytest.raises(
        ConfigError, match=rf"{NAME}: its SHA-256 is \w+..., the release's {release[1].sha256[:12]}"
    ) as error:
        YOLO(NAME)
    assert "delete it" in str(error.value) and release[2] == []
    with pytest.raises(ConfigError, match="its SHA-256 is"):
        released.find(tmp_path / where / NAME)


def test_another_file_on_the_server_is_refused(release, tmp_path):
    file, row, _ = release
    flip(file)
    with pytest.raises(ConfigError, match="its SHA-256 is .*; delete it, and it is downloaded again"):
        released.find(NAME)
    shutil.rmtree(tmp_path / "cache")
    for content, found in ((b"x" * 1000, "1000"), (b"x" * (row.size + 5), "more")):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=f"returned {found} bytes, needed {row.size}; try again later"):
            released.find(NAME)
        assert list((tmp_path / "cache").iterdir()) == []


def test_out_of_reach(release, tmp_path, monkeypatch):
    release[0].unlink()
    with pytest.raises(ConfigError, match=rf"^{NAME}: cannot be downloaded \(.*404.*\); fetch https://.* by hand"):
        released.find(NAME)

    def nowhere(url, timeout):
        assert timeout <= 10
        raise OSError("no route")

    monkeypatch.setattr(released, "urlopen", nowhere)
    with pytest.raises(ConfigError, match="no route"):
        YOLO(NAME)
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["yolo26s-lite.pt", "yolov8n-mnv3.pt", "yolov8-mnv3.pt"])
def test_none_has_been_released(name, place):
    with pytest.raises(ConfigError) as error:
        YOLO(name)
    assert str(error.value) == (
        f"{name}: there is no such file, and no checkpoint of this model has been released; train "
        f"model={name[:-3]}.yaml, with pretrained=yolov8n.pt to start from a trained YOLO"
    )


@pytest.mark.parametrize(
    "name", ["yolov8n.pt", "mine.pt", "sub/yolo26s-lite.pt", "yolo26s-lite.yaml", "", "a" * 5000 + ".pt"]
)
def test_other_names_are_ultralytics_own(name, place):
    assert released.find(name) is None


def test_an_option_may_name_a_checkpoint_of_ultralytics(place, monkeypatch):
    """As for the `yolo` command; of other names, none is downloaded."""
    asked = []

    def download(name):
        asked.append(name)
        if name == "yolov8m.pt":
            raise ConnectionError("Environment may be offline.")
        Path(name).write_bytes(b"weights")
        return name

    monkeypatch.setattr(downloads, "attempt_download_asset", download)
    assert released.checkpoint("yolov8n.pt", "source") == place / "yolov8n.pt" and asked == ["yolov8n.pt"]
    assert released.checkpoint("yolov8n.pt", "source") == place / "yolov8n.pt" and asked == ["yolov8n.pt"]
    with pytest.raises(ConfigError, match=r"^source=yolov8m\.pt: cannot be downloaded; .*offline.*ConnectionError"):
        released.checkpoint("yolov8m.pt", "source")
    for name in ("mine.pt", "sub/yolov8s.pt", "yolov8n.yaml"):
        with pytest.raises(ConfigError, match=f"^pretrained={name}: there is no such file; needed a trained model"):
            released.checkpoint(name, "pretrained")
    assert asked == ["yolov8n.pt", "yolov8m.pt"]


def test_an_option_finds_what_ultralytics_has_downloaded(place, tmp_path, monkeypatch):
    monkeypatch.setitem(HOST, "weights_dir", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "yolov8n.pt").write_bytes(b"weights")
    assert released.checkpoint("yolov8n.pt", "source") == tmp_path / "weights" / "yolov8n.pt"


# The script -----------------------------------------------------------------------------------------------------------

SETTINGS = ["model=yolo26n-lite", "data=shapes.yaml", "epochs=3", "imgsz=32", "batch=8", "fraction=0.02", "workers=0",
            "runtimes=onnxruntime", "device=cpu"]  # fmt: skip
STAGES = {  # stage -> file that shows that it is running, at which it is killed
    "training": "training/yolo26n-lite/runs/yolo26n-lite/0/weights/last.pt",
    "exporting": ".export-*/*.pt",
    "timing": "yolo26n-lite-bench/exports",
}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a group of processes")
def test_killed_in_each_stage_it_goes_on(tmp_path):
    YOLO("yolov8n.yaml").save(tmp_path / "source.pt")
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "scripts/release/checkpoints.py", *SETTINGS, "source=source.pt", f"folder={out}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for sign in STAGES.values():
        process = subprocess.Popen(list(map(str, command)), cwd=tmp_path, env=environment, start_new_session=True)
        patience = time.monotonic() + 600
        while not list(out.glob(sign)):
            assert process.poll() is None and time.monotonic() < patience
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "yolo26n-lite.md").exists()
    said = run(*command, cwd=tmp_path, PYTHONPATH=ROOT).stdout
    assert "its row for released.json: yolo26n-lite.json" in said
    names = {
        "yolo26n-lite.pt",
        "yolo26n-lite.onnx",
        "yolo26n-lite.md",
        "yolo26n-lite.json",
        "yolo26n-lite-bench",
        "training",
    }
    assert {path.name for path in out.iterdir()} == names
    row = released.Release(**read_json(out / "yolo26n-lite.json")[NAME])
    content = (out / NAME).read_bytes()
    assert (row.size, row.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert row.url == f"https://github.com/yolo-lite/yolo-lite/releases/download/v0.1.0/{NAME}"
    card = (out / "yolo26n-lite.md").read_text("utf-8")
    for part in (
        row.sha256,
        "mAP50-95, val",
        "transferred from source.pt",
        "of yolov8n's",
        "AGPL-3.0",
        "0.38 M",
    ):
        assert part in card
    assert str(tmp_path).encode() not in content and YOLO(out / NAME).names[0]
    record = read_json(Path(out, STAGES["training"]).parents[1] / "run.json")
    assert record["status"] in ("finished", "resumed")  # killed during or after its first checkpoint
    assert record["initial_weights"].startswith("source.pt, transferred: ")
