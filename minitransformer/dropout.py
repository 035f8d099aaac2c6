"""Dropout (Srivastava et al. 2014)."""

import torch.nn.functional as F
from torch import Tensor, nn

from minitransformer.kernels import dropout as kernel
from minitransformer.kernels import enabled


def dropout(x: Tensor, p: float) -> Tensor:
    """Each number of `x` set to 0 with probability `p`, the others scaled by 1 / (1 - p), so that the mean stays."""
    return kernel.dropout(x, p) if enabled("dropout") and kernel.fits(x, p) else F.dropout(x, p)


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` by way of `dropout`. It drops in its own training mode, whatever module it stands in."""

    def forward(self, x: Tensor) -> Tensor:
        if self.inplace:
            return super().forward(x)
        return dropout(x, self.p) if self.training and self.p > 0.0 else x
