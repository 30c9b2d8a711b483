"""A residual U-Net from preview images to a volume, small enough to train and to run on a CPU.

The finest level works on blocks of 2 x 2 x 2 voxels (space to depth): the resolution of a preview is about 12 mm.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from spectac.learned.inputs import CHANNELS

LARGEST = {"map": 2.3, "correction": 12.0}
"""Upper bound of the output: mu over that of water (cortical bone has 1.9), or the correction factor."""

LOW_COUNTS = "low-counts"
"""Target of networks whose output is their first channel and a residual, without a bound."""


@dataclass(frozen=True)
class NetworkSettings:
    """Architecture of a network.

    Parameters
    ----------
    target
        Output: "map" (mu over that of water), "correction" (factor of attenuation correction), or "low-counts" (image
        without noise).
    widths
        Channels of every level, from blocks of 2 voxels down.
    dropout
        Share of the channels that dropout sets to 0 at the deepest level.
    channels
        Channels of the input.

    Examples
    --------
    >>> NetworkSettings("correction", (8, 16)).dropout
    0.1
    """

    target: str = "map"
    widths: tuple[int, ...] = (32, 64, 96, 128)
    dropout: float = 0.1
    channels: int = len(CHANNELS)


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
    """Residual U-Net from inputs (n, channels, z, y, x) to volumes (n, z, y, x) between 0 and LARGEST, or images.

    Assumes: sizes are multiples of 2 to the number of levels, 16 for the default four.

    Parameters
    ----------
    settings
        Architecture; None: the default.

    References
    ----------
    O. Ronneberger et al., MICCAI 2015, doi:10.1007/978-3-319-24574-4_28 (U-Net).
    K. He et al., CVPR 2016, doi:10.1109/CVPR.2016.90 (residual blocks).

    Examples
    --------
    >>> network = VolumeNetwork(NetworkSettings(widths=(8, 16)))
    >>> network(torch.zeros(1, 5, 16, 16, 16)).shape
    torch.Size([1, 16, 16, 16])
    """

    def __init__(self, settings: NetworkSettings | None = None) -> None:
        super().__init__()
        self.settings = NetworkSettings() if settings is None else settings
        widths = self.settings.widths
        self.down = nn.ModuleList()
        inputs = 8 * self.settings.channels
        for width in widths:
            self.down.append(_Block(inputs, width))
            inputs = width
        self.up = nn.ModuleList(
            [_Block(deep + shallow, shallow) for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        )
        self.dropout = nn.Dropout3d(self.settings.dropout)
        self.last = nn.Conv3d(widths[0], 8, 1)
        if self.settings.target == LOW_COUNTS:  # the first output is the image that it sees
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(cast(Tensor, self.last.bias))
        else:  # it is near air instead of half of the densest bone
            nn.init.constant_(cast(Tensor, self.last.bias), -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """Volumes of inputs.

        Parameters
        ----------
        x
            Inputs (n, channels, z, y, x).

        Returns
        -------
        Tensor
            Volumes (n, z, y, x) from 0 to LARGEST; images of any sign for the target "low-counts".
        """
        image = x[:, 0]
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
        last = voxels(self.last(x)).float()[:, 0]
        if self.settings.target == LOW_COUNTS:
            return image.float() + last
        return LARGEST[self.settings.target] * torch.sigmoid(last)


def blocks(x: Tensor) -> Tensor:
    """Space to depth: blocks of 2 x 2 x 2 voxels as channels.

    Parameters
    ----------
    x
        Volumes (n, c, z, y, x) of even size.

    Returns
    -------
    Tensor
        (n, 8 c, z/2, y/2, x/2).

    Examples
    --------
    >>> blocks(torch.zeros(1, 4, 16, 16, 16)).shape
    torch.Size([1, 32, 8, 8, 8])
    """
    n, c, z, y, w = x.shape
    x = x.reshape(n, c, z // 2, 2, y // 2, 2, w // 2, 2)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, 8 * c, z // 2, y // 2, w // 2)


def voxels(x: Tensor) -> Tensor:
    """Depth to space, the inverse of `blocks`.

    Parameters
    ----------
    x
        (n, 8 c, z, y, x).

    Returns
    -------
    Tensor
        Volumes (n, c, 2 z, 2 y, 2 x).

    Examples
    --------
    >>> voxels(torch.zeros(1, 8, 8, 8, 8)).shape
    torch.Size([1, 1, 16, 16, 16])
    """
    n, c, z, y, w = x.shape
    x = x.reshape(n, c // 8, 2, 2, 2, z, y, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // 8, 2 * z, 2 * y, 2 * w)
