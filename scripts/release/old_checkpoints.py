"""Create checkpoints and a comparison folder with the code of an earlier commit, for the tests of the file format.

The code of that commit trains them for one epoch on a few generated images, with the stock command, in a fresh virtual
environment or, with packages=here, with the packages of the running Python. The outputs of each checkpoint are saved
next to it. The small checkpoints are committed in `tests/file_format/`; the tests look for the others in the folder
given by the environment variable YOLO_LITE_OLD_CHECKPOINTS.

    python scripts/release/old_checkpoints.py out=old [commit=541dc81] [packages=here]
    python scripts/release/old_checkpoints.py out=tests/file_format only=small     # what is committed
"""

import configparser
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ROOT / "tests" / "file_format"
SMALL = {  # checkpoint -> model; these are committed
    "native": "yolov8n-small.yaml",
    "interrupted": "yolo26n-small.yaml",
    "registered": "yolov8n-registered.yaml",
}
LARGE = {"lite": "yolo26n-lite.yaml", "timm": "yolov8n-timm.yaml"}
TRAIN = ["data=data/data.yaml", "imgsz=64", "batch=4", "workers=0", "plots=False"]
COMPARE = ["models=models/yolov8n-small.yaml,models/yolo26n-small.yaml", "seeds=0", "latency=False", "epochs=1"]
COMPARE += ["project=.", "name=comparison", *TRAIN]
YOLO = "import {}; from ultralytics.cfg import entrypoint; entrypoint()"  # the stock command, with yolo_lite registered
KEPT = {"comparison.json", "run.json", "results.csv", "attempts.json", "images.npz", "samples.json"}


def main(out, commit="541dc81", packages="own", only="all"):
    """Create the checkpoints and the comparison of a commit and copy them to a folder."""
    out = Path(out).absolute()
    with tempfile.TemporaryDirectory(prefix="old_checkpoints_") as folder:
        folder = Path(folder)
        source = folder / "source"
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        source.mkdir()
        subprocess.run(["tar", "-x"], cwd=source, input=archive, check=True)
        python = Path(sys.executable)
        if packages == "own":
            venv.create(folder / "venv", with_pip=True)
            python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
            subprocess.run([python, "-m", "pip", "install", "-q", f"{source}[compare]"], check=True)
        work = folder / "work"
        shutil.copytree(FILES / "models", work / "models")
        write_data(work / "data")
        paths = [source, FILES] if packages == "here" else [FILES]  # FILES holds the user's module
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "YOLO_CONFIG_DIR": str(folder)}
        names = SMALL if only == "small" else {**SMALL, **LARGE}
        for task, *rest in [*(("train", *pair) for pair in names.items()), ("compare", str(source))]:
            subprocess.run([python, __file__, f"step={task}", *rest], cwd=work, env=environment, check=True)
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            for suffix in (".pt", ".npy"):
                shutil.copy(work / (name + suffix), out)
        for path in (work / "comparison").rglob("*"):
            if path.name in KEPT:
                target = out / path.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def write_data(folder, images=8):
    """Write a dataset of two classes, bright and dark squares on grey noise; BMP files, identical on all machines."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(images):
            image, lines = rng.integers(100, 150, (64, 64, 3), dtype=np.uint8), []
            for kind in (0, 1):
                size = int(rng.integers(12, 28))
                x, y = (int(each) for each in rng.integers(0, 64 - size, 2))
                image[y : y + size, x : x + size] = (20, 230)[kind]
                box = [(x + size / 2) / 64, (y + size / 2) / 64, size / 64, size / 64]
                lines.append(" ".join(map(str, [kind, *box])))
            Image.fromarray(image).save(folder / "images" / split / f"{number}.bmp")
            (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines) + "\n")
    text = f"path: {folder.name}\ntrain: images/train\nval: images/val\nnames: [dark, bright]\n"
    (folder / "data.yaml").write_text(text)


def outputs(checkpoint):
    """Return a checkpoint's outputs for a fixed image; shape (1, 4 + classes, cells)."""
    import torch
    from ultralytics import YOLO

    image = (torch.arange(3 * 64 * 64) * 7919 % 256).view(1, 3, 64, 64) / 255
    with torch.no_grad():
        return YOLO(checkpoint).model.float().eval()(image)[0].numpy()


# In the environment of the commit -------------------------------------------------------------------------------------


def train(name, model):
    """Train one model and save its last checkpoint as `<name>.pt`, without paths of this machine, and its outputs."""
    import numpy as np
    import torch

    file = f"models/{model}" if Path("models", model.replace("n-", "-")).exists() else model
    if name == "interrupted":
        interrupted(file, name)
    else:
        command = [sys.executable, "-c", YOLO.format("my_blocks" if name == "registered" else "yolo_lite")]
        command += ["train", f"model={file}", *TRAIN, "epochs=1", "project=runs", f"name={name}"]
        subprocess.run(command, check=True)
    last = next(Path("runs").rglob(f"{name}/weights/last.pt"))
    checkpoint = clean(torch.load(last, weights_only=False), file, name)
    torch.save(checkpoint, f"{name}.pt")
    np.save(f"{name}.npy", outputs(f"{name}.pt"))


def clean(checkpoint, file, name):
    """Make the paths in a checkpoint relative."""
    here = {"data": "data/data.yaml", "model": file, "project": "runs", "name": name, "save_dir": f"runs/{name}"}
    models = [checkpoint[key] for key in ("model", "ema") if checkpoint[key] is not None]
    for settings in [checkpoint["train_args"], *(vars(each)["args"] for each in models)]:
        settings = settings if isinstance(settings, dict) else vars(settings)
        settings.update({key: each for key, each in here.items() if key in settings})
    return checkpoint


def interrupted(file, name):
    """Start a training of three epochs in a process that exits abruptly in the second, like a killed one."""
    settings = {key: int(each) if each.isdecimal() else each for key, each in (w.split("=") for w in TRAIN)}
    settings |= {"epochs": 3, "plots": False, "project": "runs", "name": name}
    code = f"""
import os, yolo_lite
from ultralytics import YOLO
model = YOLO({file!r})
model.add_callback("on_train_epoch_start", lambda trainer: trainer.epoch == 1 and os._exit(9))
model.train(**{settings!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9


def compare(source):
    """Run a comparison of two models."""
    subprocess.run([*command(Path(source)), "compare", *COMPARE], check=True)


def command(source):
    """Return the command line of a source tree's `yolo-lite`, run by this Python."""
    settings = configparser.ConfigParser()
    settings.read(source / "setup.cfg", "utf-8")
    module, _, function = settings["options.entry_points"]["console_scripts"].split("=")[1].strip().partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[:1] == ["step=train"]:
        train(*words[1:])
    elif words[:1] == ["step=compare"]:
        compare(*words[1:])
    else:
        main(**dict(word.split("=", 1) for word in words))
