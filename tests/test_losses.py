"""Loss options: equal to their papers' formulas, and used in every criterion with such a loss, in both branches."""

import copy
import math
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from conftest import python, run
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import yaml_model_load

from yolo_lite import ConfigError, losses, make
from yolo_lite.datasets import shapes
from yolo_lite.options import TASKS
from yolo_lite.ultralytics_hooks import configs, internals

pytestmark = pytest.mark.core


def vfl(p, q, alpha=0.75, gamma=2.0):
    """Equation 2 of arXiv 2008.13367."""
    if q > 0:
        return -q * (q * math.log(p) + (1 - q) * math.log(1 - p))
    return -alpha * p**gamma * math.log(1 - p)


def siou(box, truth, theta=4):
    """Section 2 of arXiv 2205.12740, with its arcsin."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box, truth
    w, h, wt, ht = x2 - x1, y2 - y1, u2 - u1, v2 - v1
    inter = max(0.0, min(x2, u2) - max(x1, u1)) * max(0.0, min(y2, v2) - max(y1, v1))
    iou = inter / (w * h + wt * ht - inter)
    dx, dy = (u1 + u2 - x1 - x2) / 2, (v1 + v2 - y1 - y2) / 2
    cw, ch = max(x2, u2) - min(x1, u1), max(y2, v2) - min(y1, v1)
    dist = math.hypot(dx, dy)
    angle = 1 - 2 * math.sin(math.asin(min(abs(dx), abs(dy)) / dist) - math.pi / 4) ** 2 if dist else 0.0
    distance = sum(1 - math.exp(-(2 - angle) * r) for r in ((dx / cw) ** 2, (dy / ch) ** 2))
    shape = sum((1 - math.exp(-abs(a - b) / max(a, b))) ** theta for a, b in ((w, wt), (h, ht)))
    return 1 - iou + (distance + shape) / 2


def test_varifocal_is_the_papers():
    p = torch.tensor([0.01, 0.2, 0.5, 0.9, 0.999], dtype=torch.float64)
    q = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    grid = torch.cartesian_prod(p, q)
    found = losses.varifocal(grid[:, 0].logit(), grid[:, 1])
    expected = [vfl(*pair) for pair in grid.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)
    logits = torch.linspace(-4, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: losses.varifocal(x, torch.tensor([0, 0.5, 0, 1.0, 0, 0.1]).double()), logits
    )


def test_siou_is_the_papers():
    torch.manual_seed(0)
    corners = torch.rand(200, 2, 4, dtype=torch.float64) * 10
    boxes = torch.cat((corners[..., :2], corners[..., :2] + 0.5 + corners[..., 2:]), -1)
    found = losses.siou(boxes[:, 0], boxes[:, 1])
    expected = [siou(*pair) for pair in boxes.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "box, truth",
    [
        ([0, 0, 4, 4], [0, 0, 4, 4]),  # equal boxes
        ([1, 1, 3, 3], [0, 0, 4, 4]),  # centres coincide
        ([0, 0, 4, 4], [10, 0, 14, 4]),  # centres side by side
        ([0, 0, 4, 4], [5, 5, 9, 9]),  # at 45 degrees
        ([2, 2, 2, 2], [0, 0, 4, 4]),  # no area
        ([3, 3, 2, 2], [0, 0, 4, 4]),  # inverted corners, as an untrained network may predict
    ],
)
def test_siou_has_finite_gradients(box, truth):
    box = torch.tensor([box], dtype=torch.float32, requires_grad=True)
    loss = losses.siou(box, torch.tensor([truth], dtype=torch.float32))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(box.grad).all()
    if box.tolist() == [[0, 0, 4, 4]] and truth == [0, 0, 4, 4]:
        assert loss.item() == pytest.approx(0, abs=1e-6)


KEYS = {"class_loss": "varifocal", "box_loss": "siou"}
BASES = ("yolov8", "yolo26")  # one branch; two branches, end-to-end


def keys_of(task):
    """Return the losses that a task has."""
    return {key: value for key, value in KEYS.items() if task != "obb" or key == "class_loss"}


def write(folder, base, task, keys, **more):
    """Write a small model of ours with some keys; return the name of its scale n."""
    suffix = TASKS[task]
    out = folder / f"{base}-my{suffix}.yaml"
    make(base, "mobilenetv4_conv_small", "light", "light", task, width=0.25, scale="n", count=False, out=str(out),
         keys=keys, **more)  # fmt: skip
    return str(out.with_name(f"{base}n-my{suffix}.yaml"))


def build(name, task, **keys):
    model = internals.build_model({**yaml_model_load(name), **keys}, task)
    model.args = get_cfg(overrides={"cls": 1.0})
    return model


def exchanged(criterion, keys):
    """Tell whether a criterion, each branch of an end-to-end one, has the losses of these keys and no others."""
    branches = [getattr(criterion, name) for name in ("one2many", "one2one") if hasattr(criterion, name)]
    return all(
        isinstance(each.bce, losses.VarifocalLoss) == ("class_loss" in keys)
        and isinstance(each.bbox_loss, losses.SIoULoss) == ("box_loss" in keys)
        for each in branches or [criterion]
    )


def batch(task, size=64):
    """Three images with three objects; two would be taken for something else by ultralytics 8.4.0."""
    torch.manual_seed(0)
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.5], [0.3, 0.4, 0.3, 0.3], [0.6, 0.6, 0.5, 0.7]])
    found = {"img": torch.rand(3, 3, size, size), "batch_idx": torch.tensor([0.0, 0, 2]), "cls": torch.zeros(3, 1)}
    found["resized_shape"] = [(size, size)] * 3  # required by older releases
    found |= {"bboxes": torch.cat((boxes, torch.full((3, 1), 0.3)), 1) if task == "obb" else boxes}
    if task == "segment":
        masks = torch.zeros(3, size // 4, size // 4)
        masks[:, 4:12, 4:12] = 1
        found |= {"masks": masks, "sem_masks": masks.long()}
    if task == "pose":
        found["keypoints"] = torch.rand(3, 17, 3)
    return found


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("base", "task"),
    [
        ("yolov8", "detect"), *(("yolo26", task) for task in ("detect", "segment", "pose", "obb")),
        *(pytest.param("yolov8", task, marks=SLOW) for task in ("segment", "pose", "obb")),
    ],
)  # fmt: skip
def test_in_every_criterion(task, base, tmp_path):
    torch.manual_seed(0)
    keys = keys_of(task)
    model = build(write(tmp_path, base, task, keys), task)
    ours, with_keys = model.init_criterion(), model.yaml
    model.yaml = {key: value for key, value in with_keys.items() if key not in KEYS}
    stock = model.init_criterion()
    assert exchanged(ours, keys) and exchanged(stock, {}) and hasattr(ours, "one2one") == (base == "yolo26")
    data = batch(task)
    outputs = model.train()(data["img"])
    before, after = (criterion(outputs, data)[0] for criterion in (stock, ours))
    assert torch.isfinite(after).all() and after.shape == before.shape
    assert (after != before).sum() == len(keys)  # the other losses are unchanged
    after.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("base", BASES)
def test_images_without_objects(base, tmp_path):
    model = build(write(tmp_path, base, "detect", KEYS), "detect")
    data = batch("detect")
    data |= {"batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    loss, _ = model.loss(data)
    loss.sum().backward()
    assert loss[0] == 0 and loss[1] > 0 and torch.isfinite(loss).all()


def test_class_loss_is_the_formula_over_all_scores(tmp_path):
    """What the criterion returns, worked out again: q is the IoU of a positive's box, the sum over the positives."""
    torch.manual_seed(0)
    model = build(write(tmp_path, "yolov8", "detect", {"class_loss": "varifocal"}), "detect", nc=3)
    criterion, data = model.init_criterion(), batch("detect")
    outputs = model.train()(data["img"])
    loss = criterion(outputs, data)[0][1]
    assigned = criterion.assigner
    scores = outputs["scores"].detach().permute(0, 2, 1).sigmoid()
    total = 0.0
    for image in range(3):
        for anchor in range(scores.shape[1]):
            for cls in range(3):
                positive = bool(assigned.found[image, anchor]) and int(assigned.labels[image, anchor]) == cls
                q = float(assigned.iou[image, anchor]) if positive else 0.0
                total += vfl(float(scores[image, anchor, cls]), q)
    assert loss.item() == pytest.approx(3 * total / int(assigned.found.sum()), rel=1e-4)  # times the batch, as usual


def test_aligned_takes_ultralytics_targets(tmp_path):
    torch.manual_seed(0)
    name = write(tmp_path, "yolov8", "detect", {"class_loss": "varifocal-aligned"})
    criterion = build(name, "detect").init_criterion()
    logits, targets = torch.randn(2, 5, 4), torch.rand(2, 5, 4).round() * 0.4
    criterion.assigner.found = targets.sum(-1) > 0
    positives = int(criterion.assigner.found.sum())
    loss = criterion.bce(logits, targets).sum() / targets.sum().clamp(min=1)
    pairs = zip(logits.sigmoid().flatten().tolist(), targets.flatten().tolist(), strict=True)
    expected = sum(vfl(p, q) for p, q in pairs)
    assert loss.item() == pytest.approx(expected / positives, rel=1e-4)


BAD = {  # mistake -> (task, keys, pattern of the message)
    "misspelt": ("detect", {"class_loss": "varifocl"}, "needed null or varifocal or .*; did you mean 'varifocal'"),
    "no text": (
        "detect",
        {"class_loss": True},
        "class_loss: found True; needed null or varifocal or varifocal-aligned",
    ),
    "Ultralytics' own": ("detect", {"box_loss": "ciou"}, "box_loss: found 'ciou'; needed null or siou"),
    "of upright boxes": (
        "obb",
        {"box_loss": "siou"},
        "found siou, .* upright boxes; needed null for LightOBB's rotated",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_values_are_refused(name, tmp_path):
    task, keys, message = BAD[name]
    with pytest.raises(ConfigError, match=message) as caught:
        write(tmp_path, "yolov8", task, keys)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("base, task", [("rtdetr-l", "detect"), ("yolov8", "classify")])
def test_heads_with_losses_of_their_own(base, task):
    with pytest.raises(ConfigError, match="class_loss: found varifocal; needed null, since .* has its own losses"):
        make(base, "mobilenetv4_conv_small", task=task, count=False, keys={"class_loss": "varifocal"})


def test_a_stock_model_is_told_that_the_key_is_ours(tmp_path):
    text = configs.stock_configs()["yolov8"].read_text("utf-8")
    (tmp_path / "yolov8-focal.yaml").write_text(f"class_loss: varifocal\n{text}", "utf-8")
    message = "yolov8n-focal.yaml: class_loss is a key for models with a module of yolo_lite's; found none"
    with pytest.raises(ConfigError, match=message):
        yaml_model_load(tmp_path / "yolov8n-focal.yaml")


# With the real trainer ------------------------------------------------------------------------------------------------

TRAIN = "imgsz=64, epochs={epochs}, batch=4, workers=0, plots=False, project={project!r}"
SAY = """
def say(trainer):
    criterion = trainer.model.criterion
    for name in ("one2many", "one2one"):
        branch = getattr(criterion, name, None)
        if branch is not None:
            print("LOSSES", name, type(branch.bce).__name__, type(branch.bbox_loss).__name__)
    if not hasattr(criterion, "one2many"):
        print("LOSSES", type(criterion.bce).__name__, type(criterion.bbox_loss).__name__)
"""
SAID = {
    "yolov8": "LOSSES VarifocalLoss SIoULoss",
    "yolo26": "LOSSES one2many VarifocalLoss SIoULoss\nLOSSES one2one VarifocalLoss SIoULoss",
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a function that writes a dataset of 8 + 4 images for a task and returns the path of its YAML."""

    def generate(task="detect"):
        monkeypatch.setattr(shapes, "SPLITS", {"train": 8, "val": 4})
        shapes.generate(tmp_path / "data", task)
        keypoints = {"kpt_shape": [5, 3], "flip_idx": [0, 1, 4, 3, 2]} if task == "pose" else {}
        d = {"path": str(tmp_path / "data"), "train": "images/train", "val": "images/val", **keypoints}
        file = tmp_path / "data.yaml"
        file.write_text(yaml.safe_dump({**d, "names": dict(enumerate(shapes.NAMES))}), "utf-8")
        return str(file)

    return generate


def train(folder, model, data, epochs=1, before="", check=True, **arguments):
    """Train in a fresh process, which says at the start of each epoch's validation which losses it had."""
    words = "".join(f", {key}={value!r}" for key, value in arguments.items())
    code = f"""
from ultralytics import YOLO
{SAY}
model = YOLO({model!r})
model.add_callback("on_train_epoch_end", say)
{textwrap.dedent(before)}
model.train(data={data!r}, {TRAIN.format(epochs=epochs, project=str(folder / "runs"))}{words})
"""
    return python(code, folder, check=check)


@SLOW  # the losses of the trainer are tested below, with a checkpoint; the criteria of all tasks above
@pytest.mark.parametrize(
    ("base", "task"),
    [
        ("yolov8", "detect"),
        *(("yolo26", task) for task in TASKS if task != "classify"),
    ],
)  # fmt: skip
def test_trains(base, task, tmp_path, data):
    said = train(tmp_path, write(tmp_path, base, task, keys_of(task)), data(task), name="run").stdout
    assert SAID[base].replace("SIoULoss", "RotatedBboxLoss" if task == "obb" else "SIoULoss") in said
    header, row = (line.split(",") for line in (tmp_path / "runs/run/results.csv").read_text().splitlines())
    assert all(math.isfinite(float(value)) for key, value in zip(header, row, strict=True) if "loss" in key)


def test_is_fine_tuned(tmp_path, data):
    """What a checkpoint says of its losses is what it is trained on with."""
    model = YOLO(write(tmp_path, "yolo26", "detect", KEYS))
    model.save(tmp_path / "last.pt")
    assert SAID["yolo26"] in train(tmp_path, str(tmp_path / "last.pt"), data(), name="tuned").stdout


@SLOW
def test_resumes_and_is_fine_tuned(tmp_path, data):
    """A killed run goes on with its losses, fine-tuning its checkpoint keeps them, and `pretrained=` changes none."""
    name, file = write(tmp_path, "yolo26", "detect", KEYS), data()
    kill = """
        def stop(trainer):
            if trainer.epoch == 1:
                import os; os._exit(9)
        model.add_callback("on_train_epoch_start", stop)
    """
    assert train(tmp_path, name, file, 3, kill, check=False, name="killed").returncode == 9
    last = str(tmp_path / "runs/killed/weights/last.pt")
    tuned = train(tmp_path, last, file, name="tuned").stdout
    assert SAID["yolo26"] in tuned
    assert SAID["yolo26"] in train(tmp_path, name, file, pretrained=last, name="pretrained").stdout
    resumed = train(tmp_path, last, file, 3, resume=True).stdout
    assert "Resuming training" in resumed and resumed.count(SAID["yolo26"]) == 2


@SLOW  # building a model from the trainer's state in a worker is also tested in test_checkpoints.py
@pytest.mark.parametrize("resumed", [False, True], ids=["fresh", "fine-tuning"])
def test_multi_gpu_worker(resumed, tmp_path, data):
    """A worker is a fresh interpreter that builds the model from what the trainer's state names."""
    name, file = write(tmp_path, "yolov8", "detect", KEYS), data()
    if resumed:
        train(tmp_path, name, file, name="first")
        name = str(tmp_path / "runs/first/weights/last.pt")
    numbers = TRAIN.format(epochs=1, project=str(tmp_path / "runs"))
    code = f"""
        from ultralytics.models.yolo.detect import DetectionTrainer
        from ultralytics.utils.dist import generate_ddp_file
        trainer = DetectionTrainer(overrides=dict(model={name!r}, data={file!r}, name="ddp", {numbers}))
        print("FILE", generate_ddp_file(trainer))
    """
    script = python(textwrap.dedent(code), tmp_path).stdout.rpartition("FILE ")[2].strip()
    text = Path(script).read_text("utf-8")
    assert text.count("trainer.train()") == 1
    (tmp_path / "worker.py").write_text(SAY + text.replace("trainer.train()", "trainer.train(); say(trainer)"), "utf-8")
    assert SAID["yolov8"] in run(sys.executable, "worker.py", cwd=tmp_path).stdout


def test_a_criterion_is_copied_and_pickled(tmp_path):
    """Older releases keep the criterion in the checkpoints of a training that goes on."""
    model = build(write(tmp_path, "yolo26", "detect", KEYS), "detect")
    model.loss(batch("detect"))
    copied = copy.deepcopy(model)
    assert exchanged(copied.criterion, KEYS)
    torch.save({"model": copied}, tmp_path / "last.pt")
    loaded = torch.load(tmp_path / "last.pt", weights_only=False)["model"]
    assert exchanged(loaded.criterion, KEYS)
