"""Released checkpoints, found by their bare names: `model=yolo26s-lite.pt`.

Each is a row of released.json, which `scripts/release/checkpoints.py` writes. A cached file that does not match its row
to the byte is rejected, and so is a user's file of the same name and size.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

from yolo_lite.errors import ConfigError, typed_line
from yolo_lite.files import is_file, replacing
from yolo_lite.ultralytics_hooks import checkpoints
from yolo_lite.ultralytics_hooks.configs import configs, without_letter

TABLE = Path(__file__).with_name("released.json")
PATIENCE = 10  # seconds without an answer until a server counts as unreachable
CHUNK = 2**20  # bytes


class Release(NamedTuple):
    """A released checkpoint: its download URL, size in bytes and SHA-256."""

    url: str
    size: int
    sha256: str


def releases() -> dict[str, Release]:
    """Return all released checkpoints by name."""
    return {name: Release(**row) for name, row in json.loads(TABLE.read_text("utf-8")).items()}


def find(given: str | Path) -> Path | None:
    """Return the path of a released checkpoint in the cache, downloaded if necessary; None for every other file.

    A file of that name in the current folder, or in Ultralytics' weights folder, takes precedence over the cache.

    Args:
        given: File name or path given by the user.

    Raises:
        ConfigError: If the file is damaged or cannot be downloaded, or is the bare name of a config without a released
            checkpoint.
    """
    path = Path(str(given).strip())
    if path.suffix != ".pt":
        return None
    release = releases().get(path.name)
    here = _here(path)
    if here is not None:
        if release is not None and here.stat().st_size == release.size:
            _check(here, release, "damaged, or your own: delete it, or give it another name")
        return None
    if path.name != str(path):
        return None
    if release is None:
        _say_that_there_is_none(path)
        return None
    from yolo_lite.weights.cache import folder

    cached = folder() / path.name
    if not is_file(cached):
        _download(release, cached)
    _check(cached, release, "delete it, and it is downloaded again")
    return cached


def checkpoint(given: str, option: str) -> Path:
    """Return the path of a checkpoint that an option names; a released one, ours or Ultralytics', is downloaded.

    Args:
        given: File name or path given by the user; bare names are looked up as the `yolo` command does.
        option: Name of the option, for messages.

    Raises:
        ConfigError: If there is no such checkpoint, it cannot be downloaded, or as for `find`.
    """
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    found = find(given) or _here(Path(given))
    if found is not None:
        return found.absolute()
    if given not in GITHUB_ASSETS_NAMES or not given.endswith(".pt"):
        needed = "needed a trained model, a .pt of yolo train or a released one like yolov8n.pt"
        raise ConfigError(f"{option}={given}: there is no such file; {needed}")
    try:
        return Path(attempt_download_asset(given)).resolve(strict=True)
    except OSError as error:
        raise ConfigError(f"{option}={given}: cannot be downloaded; {typed_line(error)}") from None


def torch_safe_load(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `torch_safe_load` that finds released checkpoints, and otherwise acts like the one in checkpoints.py."""
    checked = checkpoints.torch_safe_load(original)

    def load(weight: Any, safe_only: bool | None = None) -> Any:
        return checked(find(weight) or weight, safe_only)

    return load


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            found.update(block)
    return found.hexdigest()


def _here(path: Path) -> Path | None:
    """Return the path where Ultralytics would find the file, None if it is not there."""
    from ultralytics.utils import SETTINGS

    return next((each for each in (path, Path(SETTINGS["weights_dir"], path)) if is_file(each)), None)


def _check(path: Path, release: Release, advice: str) -> None:
    found = digest(path)
    if found != release.sha256:
        raise ConfigError(f"{path}: its SHA-256 is {found[:12]}..., the release's {release.sha256[:12]}...; {advice}")


def _say_that_there_is_none(path: Path) -> None:
    if not {f"{path.stem}.yaml", without_letter(f"{path.stem}.yaml")}.isdisjoint(configs()):
        raise ConfigError(
            f"{path}: there is no such file, and no checkpoint of this model has been released; train "
            f"model={path.stem}.yaml, with pretrained=yolov8n.pt to start from a trained YOLO"
        )


def _download(release: Release, path: Path) -> None:
    """Download a checkpoint completely or not at all."""
    from ultralytics.utils import LOGGER

    LOGGER.info(f"Downloading {release.url} to {path}")
    try:
        with urlopen(release.url, timeout=PATIENCE) as answer, replacing(path) as draft, draft.open("wb") as file:
            while (left := release.size + 1 - file.tell()) and (block := answer.read(min(CHUNK, left))):
                file.write(block)
            if file.tell() != release.size:
                found = "more" if file.tell() > release.size else f"{file.tell()}"
                raise ConfigError(
                    f"{path.name}: {release.url} returned {found} bytes, needed {release.size}; try again later"
                )
    except OSError as error:
        raise ConfigError(
            f"{path.name}: cannot be downloaded ({typed_line(error)}); fetch {release.url} by hand into this folder"
        ) from None
