"""What a user's own file looks like: one module, registered."""

from torch import nn

import yolo_lite


@yolo_lite.register
class OneMoreBlock(nn.Module):
    """A convolution beside its input; (B, c1, H, W) -> (B, c2, H, W)."""

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x).relu()
