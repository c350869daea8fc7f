"""Loss options of model YAMLs: `class_loss: varifocal` and `box_loss: siou`.

They replace parts of the criterion that Ultralytics creates for a model (in both branches of an end-to-end model), so
assignment, gains, masks and keypoints remain Ultralytics'. A model rebuilt from a checkpoint has the keys in its YAML,
so resumed training, fine-tuning and the workers of multi-GPU training use the same losses.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from ultralytics.utils.loss import BboxLoss
from ultralytics.utils.metrics import bbox_iou, probiou

ALPHA, GAMMA = 0.75, 2.0  # parameters of VariFocal loss, as in the paper
THETA = 4  # exponent of SIoU's shape cost, as in the paper
EPS = 1e-7


def apply(criterion: Any, d: Mapping[str, Any]) -> Any:
    """Install the losses selected in a model dictionary in Ultralytics' criterion; return the criterion."""
    branches = [getattr(criterion, name) for name in ("one2many", "one2one") if hasattr(criterion, name)]
    for branch in branches or [criterion]:
        if d.get("class_loss") is not None:
            branch.assigner = Remembering(branch.assigner)
            branch.bce = VarifocalLoss(branch.assigner, aligned=d["class_loss"] == "varifocal-aligned")
        if d.get("box_loss") == "siou":
            branch.bbox_loss = SIoULoss(branch.reg_max).to(branch.device)
    return criterion


class Remembering(nn.Module):
    """Wrapper of Ultralytics' assigner that stores the last assignment for the class loss."""

    def __init__(self, assigner: nn.Module) -> None:
        super().__init__()
        self.assigner = assigner
        self.labels = self.found = self.iou = torch.empty(0)

    @torch.no_grad()
    def forward(self, scores: torch.Tensor, boxes: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Assign as Ultralytics does; store labels, foreground mask and IoU with the assigned box, each (B, A)."""
        result = self.assigner(scores, boxes, *args, **kwargs)
        labels, targets, _, found, *_ = result
        found = found.bool()  # not yet boolean if no image has an object
        pairs = boxes[found], targets[found]  # (N, 4), rotated boxes (N, 5)
        overlap = bbox_iou(*pairs, xywh=False) if boxes.shape[-1] == 4 else probiou(*pairs)
        self.labels, self.found = labels, found
        self.iou = torch.zeros_like(scores[..., 0])
        self.iou[found] = overlap.view(-1).clamp(0, 1).to(self.iou.dtype)
        return result


class VarifocalLoss(nn.Module):
    """VariFocal loss of class scores; logits and targets (B, A, classes) -> (B, A, classes).

    VFL(p, q) = -q (q log p + (1 - q) log(1 - p)) for q > 0, else -alpha p^gamma log(1 - p), where q is the IoU of the
    predicted box with its ground truth, or with `aligned` Ultralytics' alignment metric. The sum is normalised by the
    number of positives, as in the paper: since Ultralytics divides the returned loss by the sum of its targets, the
    loss is multiplied by that sum and divided by the number of positives.

    Source: Zhang et al. 2021, VarifocalNet, https://arxiv.org/abs/2008.13367, equation 2.
    """

    def __init__(self, assigned: Remembering, aligned: bool = False) -> None:
        super().__init__()
        self.assigned = (assigned,)  # a tuple, so that it is not registered as a submodule; the criterion owns it
        self.aligned = aligned

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        (assigned,) = self.assigned
        q = targets
        if not self.aligned:
            classes = F.one_hot(assigned.labels.long().clamp(0, logits.shape[-1] - 1), logits.shape[-1])
            q = (classes * (assigned.iou * assigned.found).unsqueeze(-1)).to(logits.dtype)
        positives = assigned.found.sum().clamp(min=1)
        return varifocal(logits, q) * (targets.sum().clamp(min=1) / positives)


def varifocal(logits: torch.Tensor, q: torch.Tensor, alpha: float = ALPHA, gamma: float = GAMMA) -> torch.Tensor:
    """Return the element-wise VariFocal loss.

    Args:
        logits: Logits of any shape; p is their sigmoid.
        q: Targets of the same shape as the logits, 0 for negatives.
        alpha: Weight of negatives.
        gamma: Exponent that reduces the weight of easy negatives.
    """
    weight = torch.where(q > 0, q, alpha * logits.sigmoid() ** gamma)
    return weight * F.binary_cross_entropy_with_logits(logits, q, reduction="none")


class SIoULoss(BboxLoss):
    """Ultralytics' box loss with SIoU instead of CIoU; the DFL or L1 term is unchanged."""

    def forward(
        self,
        pred_dist: torch.Tensor,
        pred_bboxes: torch.Tensor,
        anchor_points: torch.Tensor,
        target_bboxes: torch.Tensor,
        target_scores: torch.Tensor,
        target_scores_sum: torch.Tensor,
        fg_mask: torch.Tensor,
        *more: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the box loss and the distance loss, weighted and normalised as Ultralytics does."""
        _, distance = super().forward(
            pred_dist, pred_bboxes, anchor_points, target_bboxes, target_scores, target_scores_sum, fg_mask, *more
        )
        weight = target_scores[fg_mask].sum(-1)
        loss = siou(pred_bboxes[fg_mask], target_bboxes[fg_mask]) * weight
        return loss.sum() / target_scores_sum, distance


def siou(boxes: torch.Tensor, truth: torch.Tensor, theta: int = THETA) -> torch.Tensor:
    """Return the SIoU loss, 1 - IoU + (distance + shape) / 2; two (N, 4) of corners (xyxy) -> (N,).

    Gradients are finite everywhere, even where centres coincide.

    Source: Gevorgyan 2022, https://arxiv.org/abs/2205.12740, section 2.
    """
    size, other = (boxes[:, 2:] - boxes[:, :2]).clamp(min=EPS), (truth[:, 2:] - truth[:, :2]).clamp(min=EPS)
    overlap = (torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2])).clamp(min=0)
    inter = overlap.prod(1)
    iou = inter / (size.prod(1) + other.prod(1) - inter + EPS)
    enclosing = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    apart = ((truth[:, :2] + truth[:, 2:]) - (boxes[:, :2] + boxes[:, 2:])) / 2  # (N, 2), offsets of the centres
    # 1 - 2 sin^2(arcsin(x) - pi / 4) = sin(2 arcsin(x)) = 2 x sqrt(1 - x^2), where x and the root are the two legs
    # divided by the distance. This avoids arcsin, whose slope is infinite at 1, and the root of 0.
    legs = apart.abs()
    angle = 2 * legs.prod(1) / (legs.square().sum(1) + EPS)
    rho = (apart / enclosing.clamp(min=EPS)).square()
    distance = (1 - torch.exp(-(2 - angle).unsqueeze(1) * rho)).sum(1)
    omega = (size - other).abs() / torch.maximum(size, other)
    shape = (1 - torch.exp(-omega)).pow(theta).sum(1)
    return 1 - iou + (distance + shape) / 2
