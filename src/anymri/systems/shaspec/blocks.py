"""Convolutions with standardised kernels, and the residual blocks of ShaSpec. Source: sheet shaspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import layer_norm, leaky_relu

from anymri.layers.convolution import Triple, conv3d
from anymri.layers.instance_norm import InstanceNorm

NEGATIVE_SLOPE = 0.01
VARIANCE_EPS = 1e-12
# Ratio of the output channels of a bottleneck to those inside it.
EXPANSION = 4


def standardised(weight: Tensor) -> Tensor:
    """Return a weight with mean 0 and standard deviation 1 (n - 1 degrees of freedom) per output channel."""
    count = weight[0].numel()
    freedom = (count - 1) / count
    # A layer norm of kernels, seven times faster than separate operations. It divides by n.
    kernels = layer_norm(weight.flatten(1), (count,), eps=VARIANCE_EPS * freedom)
    return (kernels * sqrt(freedom)).view_as(weight)


class Conv(nn.Conv3d):
    """Convolution without bias whose kernel is standardised; a side that is not strided keeps its length."""

    def __init__(
        self, in_channels: int, out_channels: int, side: int, stride: int | Triple = 1, dilation: int = 1
    ) -> None:
        padding = dilation * (side // 2)
        super().__init__(in_channels, out_channels, side, stride, padding, dilation, bias=False)
        self.keeps = False
        self.kept: Tensor | None = None

    def kernel(self) -> Tensor:
        """Return the standardised weight, computed once while the weights are fixed."""
        if self.kept is not None:
            return self.kept
        kernel = standardised(self.weight)
        if self.keeps:
            self.kept = kernel
        return kernel

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolution of features (B, in, X, Y, Z)."""
        stride, padding, dilation = (cast("Triple", each) for each in (self.stride, self.padding, self.dilation))
        return conv3d(features, self.kernel(), None, stride, padding, dilation)

    def contribution(self, features: Tensor, first: int = 0) -> Tensor:
        """Return what the input channels from `first` on, (B, C, X, Y, Z), add to a convolution with side 1."""
        return conv3d(features, self.kernel()[:, first : first + features.shape[1]])


@contextmanager
def kept_kernels(network: nn.Module) -> Iterator[None]:
    """Context in which each kernel of `network` is standardised once; its weights must not change meanwhile."""
    convolutions = [module for module in network.modules() if isinstance(module, Conv) and not module.keeps]
    for conv in convolutions:
        conv.keeps = True
    try:
        yield
    finally:
        for conv in convolutions:
            conv.keeps, conv.kept = False, None


def activate(features: Tensor) -> Tensor:
    """Apply leaky ReLU in place."""
    return leaky_relu(features, NEGATIVE_SLOPE, inplace=True)


class Unit(nn.Module):
    """Convolution and instance norm, followed by leaky ReLU if `active`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        side: int,
        stride: int | Triple = 1,
        dilation: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels, side, stride, dilation)
        self.norm = InstanceNorm(out_channels, slope=NEGATIVE_SLOPE if active else 1.0)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, X', Y', Z') of features (B, in, X, Y, Z)."""
        return self.finish(self.conv(features))

    def finish(self, convolved: Tensor) -> Tensor:
        """Return convolved features (B, C, X, Y, Z) after norm and activation."""
        normed: Tensor = self.norm(convolved)
        return normed


class Bottleneck(nn.Module):
    """Residual block whose 3x3x3 convolution has a quarter of the output channels.

    projects  whether the shortcut is a convolution; otherwise it is the identity
    """

    def __init__(self, in_channels: int, channels: int, stride: int, projects: bool) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.narrow = Unit(in_channels, channels, 1)
        self.mix = Unit(channels, channels, 3, stride)
        self.widen = Unit(channels, out_channels, 1, active=False)
        self.shortcut = Unit(in_channels, out_channels, 1, stride, active=False) if projects else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, X', Y', Z') of features (B, in, X, Y, Z)."""
        return activate(self.widen(self.mix(self.narrow(features))) + self.shortcut(features))


class BasicBlock(nn.Module):
    """Residual block of two 3x3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Unit(channels, channels, 3)
        self.second = Unit(channels, channels, 3, active=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the shape of the input, (B, C, X, Y, Z)."""
        return activate(self.second(self.first(features)) + features)
