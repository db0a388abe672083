"""Gradients of depthwise convolutions, and of kernels larger than their image, on a CPU, in float32.

Measured with torch 2.14.1 and oneDNN on a CPU with AMX, one thread, channels_last: the gradients of a 5 × 5 depthwise
convolution of 672 channels, 16 × 16 pixels, batch 8, take 100 ms in bfloat16 and 18 ms in float32. In a step of
EfficientNet-Lite0 with a U-Net decoder they were 57 % of the time. The forward pass is as quick in bfloat16 as it
should be.

With the same versions, on a CPU with AVX-512 BF16, bfloat16 gradients of the weights of a convolution are memory that
was never written where the kernel is longer than the image along one axis, such as 3 × 3 × 3 on 2 × 2 × 2 voxels, as at
the bridge of a U-Net with patches of 32 voxels: a training then ends with a loss that is not finite, or goes on with
arbitrary values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Float32Gradients"]


def _each(value: int | Iterable[int], axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else list(value)


class _Convolution(torch.autograd.Function):
    """A convolution in the precision of autocast whose gradients are computed in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        image: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *geometry: Any,
    ) -> torch.Tensor:
        half = image.dtype
        rounded = weight.to(half)
        # What the operator itself saves under autocast: torch.utils.checkpoint computes the forward pass again by it.
        ctx.save_for_backward(image, rounded)
        ctx.geometry, ctx.bias, ctx.of_weight = geometry, bias is not None, weight.dtype
        convolution = torch.conv2d if image.ndim == 4 else torch.conv3d
        return convolution(image, rounded, None if bias is None else bias.to(half), *geometry)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        image, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        of_image, of_weight, of_bias = torch.ops.aten.convolution_backward(
            *(gradients[0].float(), image.float(), weight.float(), [len(weight)] if ctx.bias else None),
            *(stride, padding, dilation, False, [0] * len(stride), groups),
            [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias and ctx.needs_input_grad[2]],
        )
        of_image = None if of_image is None else of_image.to(image.dtype)
        return of_image, None if of_weight is None else of_weight.to(ctx.of_weight), of_bias, None, None, None, None


@dataclass
class _Call:
    """Arguments of ``torch.conv2d`` or ``torch.conv3d``, by their names."""

    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None = None
    stride: int | Iterable[int] = 1
    padding: int | str | Iterable[int] = 0
    dilation: int | Iterable[int] = 1
    groups: int = 1

    def concerned(self) -> bool:
        """Whether it is a convolution of a batch on a CPU that is differentiated, and depthwise or of a small image."""
        return (
            self.input.ndim == self.weight.ndim
            and self.input.device.type == "cpu"
            and not isinstance(self.padding, str)
            and (self.input.requires_grad or self.weight.requires_grad)
            and ((self.groups > 1 and self.weight.shape[1] == 1) or self._is_small())
        )

    def _is_small(self) -> bool:
        """Whether the kernel is longer than the image along one axis."""
        sizes, kernel = self.input.shape[2:], self.weight.shape[2:]
        dilation = _each(self.dilation, len(sizes))
        return any(size < (k - 1) * d + 1 for size, k, d in zip(sizes, kernel, dilation, strict=True))

    def run(self, dtype: torch.dtype) -> Any:
        assert not isinstance(self.padding, str)
        axes = self.weight.ndim - 2
        geometry = (*(_each(value, axes) for value in (self.stride, self.padding, self.dilation)), self.groups)
        return _Convolution.apply(self.input.to(dtype), self.weight, self.bias, *geometry)


class Float32Gradients(TorchFunctionMode):
    """While it is active, gradients of some convolutions under bfloat16 autocast on a CPU are of float32.

    Of those that are depthwise, for which this is quicker, and of those whose kernel is longer than the image along one
    axis, for which it is right.

    Outputs have the same bits, and gradients are those of float32 from the same bfloat16 inputs, so that they are as
    exact as before or better. Everything else, other devices, and convolutions without autocast or without gradients
    are left alone. Needs to be active in the forward pass only.

    Example:
        >>> depthwise = torch.nn.Conv2d(4, 4, 3, groups=4)
        >>> with torch.autocast("cpu"), Float32Gradients():
        ...     depthwise(torch.ones(1, 4, 8, 8)).dtype
        torch.bfloat16
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (torch.conv2d, torch.conv3d) and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
            call = _Call(*args, **(kwargs or {}))
            if call.concerned():
                with torch.autocast("cpu", enabled=False):
                    return call.run(torch.get_autocast_dtype("cpu"))
        return func(*args, **(kwargs or {}))
