"""PEP 517 build backend: setuptools, plus files that setuptools cannot install.

`yolo_lite.pth` and `yolo_lite.start`, one line each, are installed next to the package and register the modules when
Python starts (see yolo_lite/_startup.py). Setuptools could add them to a wheel with `data_files`, but not to an
editable install. The top-level `cfg/` is copied into the package; an editable install reads it in place.
"""

import base64
import hashlib
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (re-export the hooks that are not overridden here)

ROOT = Path(__file__).resolve().parents[2]
STARTUP_FILES = {
    "yolo_lite.pth": "import yolo_lite._startup; yolo_lite._startup.install()\n",  # up to Python 3.14
    "yolo_lite.start": "yolo_lite._startup:install\n",  # PEP 829, from Python 3.15
}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    configs = {f"yolo_lite/{p.relative_to(ROOT).as_posix()}": p.read_text("utf-8") for p in ROOT.glob("cfg/**/*.yaml")}
    _add_files(Path(wheel_directory, name), STARTUP_FILES | configs)
    return name


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
    _add_files(Path(wheel_directory, name), STARTUP_FILES)
    return name


def _add_files(wheel, files):
    """Rewrite `wheel` with `files` (name -> text) added to its contents and to its RECORD."""
    with zipfile.ZipFile(wheel) as old:
        contents = {item: old.read(item) for item in old.infolist()}
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
        for name, text in files.items():
            new.writestr(name, text)
        for item, data in contents.items():
            if item.filename.endswith(".dist-info/RECORD"):
                data += "".join(map(_record_line, files, files.values())).encode()
            new.writestr(item, data)


def _record_line(name, text):
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text.encode())}\n"
