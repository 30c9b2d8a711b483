"""A residual U-Net from preview images to a volume, small enough to train and to run on a CPU.

Reference: O. Ronneberger et al., MICCAI 2015, doi:10.1007/978-3-319-24574-4_28; residual blocks as in K. He et al.,
CVPR 2016. The finest level works on blocks of 2 x 2 x 2 voxels (space to depth): the preview's resolution of about
12 mm holds nothing finer.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from spectac.learned.inputs import CHANNELS

LARGEST = {"map": 2.3, "correction": 12.0}
"""Bound of what a network gives: mu over water's (cortical bone has 1.9), and the factor of attenuation correction."""


@dataclass(frozen=True)
class NetworkSettings:
    """What the network gives, channels of every level from blocks of 2 voxels down, dropout at the deepest level."""

    target: str = "map"
    widths: tuple[int, ...] = (32, 64, 96, 128)
    dropout: float = 0.1


class _Block(nn.Module):
    """Two convolutions with group normalisation, added to their input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, outputs), nn.GroupNorm(8, outputs)])
        self.past = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.silu(self.norms[0](self.first(x)))
        return nn.functional.silu(self.norms[1](self.second(inner)) + self.past(x))


class VolumeNetwork(nn.Module):
    """Volume (n, z, y, x) between 0 and LARGEST from inputs (n, 6, z, y, x) of learned.inputs.

    Sizes must be multiples of 2 to the number of levels: 16 for the default four.
    """

    def __init__(self, settings: NetworkSettings | None = None) -> None:
        super().__init__()
        self.settings = NetworkSettings() if settings is None else settings
        widths = self.settings.widths
        self.down = nn.ModuleList()
        inputs = 8 * len(CHANNELS)
        for width in widths:
            self.down.append(_Block(inputs, width))
            inputs = width
        self.up = nn.ModuleList(
            [_Block(deep + shallow, shallow) for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        )
        self.dropout = nn.Dropout3d(self.settings.dropout)
        self.last = nn.Conv3d(widths[0], 8, 1)
        # Begins near air, not at half of the densest bone.
        nn.init.constant_(cast(Tensor, self.last.bias), -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """Volume (n, z, y, x) of inputs (n, 6, z, y, x)."""
        x = blocks(x)
        skipped = []
        for level, block in enumerate(self.down):
            if level:
                x = nn.functional.avg_pool3d(x, 2)
            x = block(x)
            skipped.append(x)
        x = self.dropout(skipped.pop())
        for block in self.up:
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
            x = block(torch.cat([x, skipped.pop()], dim=1))
        # In full precision: 8 bits of a half-precision sigmoid are steps of 0.4 %.
        return LARGEST[self.settings.target] * torch.sigmoid(voxels(self.last(x)).float())[:, 0]


def blocks(x: Tensor) -> Tensor:
    """Space to depth: (n, c, z, y, x) as (n, 8 c, z/2, y/2, x/2)."""
    n, c, z, y, w = x.shape
    x = x.reshape(n, c, z // 2, 2, y // 2, 2, w // 2, 2)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * c, z // 2, y // 2, w // 2)


def voxels(x: Tensor) -> Tensor:
    """Inverse of `blocks`: (n, 8 c, z, y, x) as (n, c, 2z, 2y, 2x)."""
    n, c, z, y, w = x.shape
    x = x.reshape(n, c // 8, 2, 2, 2, z, y, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // 8, 2 * z, 2 * y, 2 * w)
