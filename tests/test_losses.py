"""Loss options: equal to their papers' formulas, in every criterion that has such a loss, in both branches."""

import math

import pytest
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn import tasks

from yolo_lite import ConfigError, losses

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
        ([0, 0, 4, 4], [0, 0, 4, 4]),  # the same
        ([1, 1, 3, 3], [0, 0, 4, 4]),  # centres coincide
        ([0, 0, 4, 4], [10, 0, 14, 4]),  # one centre beside the other
        ([0, 0, 4, 4], [5, 5, 9, 9]),  # at 45 degrees
        ([2, 2, 2, 2], [0, 0, 4, 4]),  # without area
        ([3, 3, 2, 2], [0, 0, 4, 4]),  # turned over, as an untrained network may give it
    ],
)
def test_siou_has_finite_gradients(box, truth):
    box = torch.tensor([box], dtype=torch.float32, requires_grad=True)
    loss = losses.siou(box, torch.tensor([truth], dtype=torch.float32))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(box.grad).all()
    if box.tolist() == [[0, 0, 4, 4]] and truth == [0, 0, 4, 4]:
        assert loss.item() == pytest.approx(0, abs=1e-6)


MODELS = {  # task -> YAMLs, an end-to-end one among them
    "Detection": ("yolov8n.yaml", "yolo26n.yaml"),
    "Segmentation": ("yolov8n-seg.yaml", "yolo26n-seg.yaml"),
    "Pose": ("yolov8n-pose.yaml", "yolo26n-pose.yaml"),
    "OBB": ("yolov8n-obb.yaml", "yolo26n-obb.yaml"),
}


def batch(task, size=64):
    """Three images with three objects; two would be taken for something else by ultralytics 8.4.0."""
    torch.manual_seed(0)
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.5], [0.3, 0.4, 0.3, 0.3], [0.6, 0.6, 0.5, 0.7]])
    found = {"img": torch.rand(3, 3, size, size), "batch_idx": torch.tensor([0.0, 0, 2]), "cls": torch.zeros(3, 1)}
    found["resized_shape"] = [(size, size)] * 3  # which older releases ask for
    found |= {"bboxes": torch.cat((boxes, torch.full((3, 1), 0.3)), 1) if task == "OBB" else boxes}
    if task == "Segmentation":
        masks = torch.zeros(3, size // 4, size // 4)
        masks[:, 4:12, 4:12] = 1
        found |= {"masks": masks, "sem_masks": masks.long()}
    if task == "Pose":
        found["keypoints"] = torch.rand(3, 17, 3)
    return found


@pytest.mark.parametrize("task, name", [(task, name) for task, names in MODELS.items() for name in names])
def test_in_every_criterion(task, name):
    torch.manual_seed(0)
    model = getattr(tasks, f"{task}Model")(name, verbose=False)
    model.args = get_cfg()
    keys = {"class_loss": "varifocal", **({} if task == "OBB" else {"box_loss": "siou"})}
    stock = model.init_criterion()
    ours = losses.apply(model.init_criterion(), keys)
    data = batch(task)
    outputs = model.train()(data["img"])
    before, after = (criterion(outputs, data)[0] for criterion in (stock, ours))
    assert torch.isfinite(after).all() and after.shape == before.shape
    assert (after != before).sum() == len(keys)  # the others are as they were
    for branch in ("one2many", "one2one") if hasattr(ours, "one2many") else (None,):
        criterion = ours if branch is None else getattr(ours, branch)
        assert isinstance(criterion.bce, losses.VarifocalLoss)
        assert isinstance(criterion.bbox_loss, losses.SIoULoss) == (task != "OBB")
    after.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


def test_class_loss_is_the_formula_over_all_scores():
    """What the criterion returns, worked out again: q is the IoU of a positive's box, the sum over the positives."""
    torch.manual_seed(0)
    model = tasks.DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.args = get_cfg(overrides={"cls": 1.0})
    criterion = losses.apply(model.init_criterion(), {"class_loss": "varifocal"})
    data = batch("Detection")
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
    assert loss.item() == pytest.approx(3 * total / int(assigned.found.sum()), rel=1e-4)  # times the batch, as always


@pytest.mark.parametrize(
    "d, head, text",
    [
        ({"class_loss": "varifocl"}, "Detect", "class_loss has to be varifocal or varifocal-aligned, found 'varifocl'"),
        ({"class_loss": True}, "Detect", "class_loss has to be varifocal or varifocal-aligned, found True"),
        ({"box_loss": "ciou"}, "Detect", "box_loss has to be siou, found 'ciou'"),
        ({"box_loss": "siou"}, "OBB26", "siou is a loss of upright boxes, OBB26 has rotated ones"),
        ({"class_loss": "varifocal"}, "RTDETRDecoder", "RTDETRDecoder has losses of its own"),
    ],
)
def test_what_cannot_be_is_refused(d, head, text):
    with pytest.raises(ConfigError, match=text):
        losses.check(d, head)
