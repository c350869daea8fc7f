"""Run one real training step of a model of any task, on made-up targets."""

import torch
from ultralytics.cfg import get_cfg

BOXES = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.3, 0.3, 0.2, 0.3], [0.6, 0.5, 0.5, 0.6]])


def batch(task="detect", channels=3, size=128):
    """Return a batch of three images with three objects, as from Ultralytics' data loader of a task.

    Not two images: the loss of Ultralytics 8.4.0 misinterprets the mask prototypes of a batch of two.
    """
    images = {"img": torch.rand(3, channels, size, size)}
    if task == "classify":
        return {**images, "cls": torch.tensor([0, 1, 1])}
    mask = torch.zeros(3, size // 4, size // 4)
    mask[:2, 4:20, 4:20] = 1
    mask[0, 8:16, 8:24] = 2  # in front of the first
    return {
        **images,
        "batch_idx": torch.tensor([0.0, 0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0], [2.0]]),
        "bboxes": torch.cat([BOXES, torch.tensor([[0.1], [0.5], [0.9]])], 1) if task == "obb" else BOXES,
        "resized_shape": [[size, size]] * 3,
        "masks": mask,
        "sem_masks": mask.long(),
        "keypoints": torch.cat([BOXES[:, None, :2].repeat(1, 17, 1), torch.full((3, 17, 1), 2.0)], 2),
    }


def train_step(model, task="detect", channels=3, size=128):
    """Compute the loss, run the backward pass and an optimizer step; return the loss."""
    model.args, model.nc = get_cfg(overrides={"task": task}), model.yaml["nc"]
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-3)
    made = batch(task, channels, size)
    made["cls"] = made["cls"].clamp(max=model.nc - 1)  # pose models have one class
    loss = model(made)[0].sum()
    loss.backward()
    optimizer.step()
    return loss
