"""What a model costs, counted the same way for every model: fused, at the real image size."""

import copy

import torch


def cost(model, imgsz=640):
    """Count a model's parameters and GFLOPs after fusing, as it runs when deployed.

    GFLOPs are twice thop's multiply-adds of a whole image. The host's own counter extrapolates from a small image, and
    gives 0.0 when anything goes wrong; here that is an error.

    Args:
        model: A model of Ultralytics (`YOLO(...).model`); it is left as it is.
        imgsz: Height and width of the image, pixels.

    Returns:
        (int, float): Parameters, GFLOPs.

    Raises:
        RuntimeError: The count is 0.
    """
    import thop

    model = copy.deepcopy(model).float().eval().fuse(verbose=False)
    parameters = sum(p.numel() for p in model.parameters())
    image = torch.zeros(1, model.yaml.get("channels", 3), imgsz, imgsz)
    with torch.no_grad():
        macs = thop.profile(model, inputs=(image,), verbose=False)[0]
    if not macs > 0:
        raise RuntimeError(f"thop counted {macs} multiply-adds")
    return parameters, 2 * macs / 1e9
