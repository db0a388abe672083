"""Features of the encoder of any network of slices, pooled over the slice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

__all__ = ["encoder_layers", "features_of_passes", "pooled_features"]

# Coarse enough for shapes, fine enough for grey values and texture.
STRIDES = (8, 16)


class _Enough(Exception):
    """All layers have run."""


def encoder_layers(network: nn.Module, image: torch.Tensor, strides: Sequence[int] = STRIDES) -> list[str]:
    """The module of each stride that ends a stage of the encoder.

    Of the modules with an output of this stride, before the next stride is reached or the decoder enlarges it again,
    the last one on the highest level of the network: a stage rather than the first layers of the next stage.

    Args:
        network: run once, without gradients, in its own mode.
        image: such as zeros.
        strides: height of the image by that of the output.

    Returns:
        Names of modules, in the order of ``strides``.

    Shape:
        - image: (B, C, H, W)

    Raises:
        ValueError: there is no output of a stride.

    Example:
        >>> net = nn.Sequential(nn.MaxPool2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=16))
        >>> encoder_layers(net, torch.zeros(1, 1, 32, 32))
        ['1', '2']
    """
    seen: list[tuple[str, int]] = []
    height = image.shape[-2]

    def note(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            # Strides are powers of two; pooling rounds sizes that these do not divide.
            seen.append((name, 2 ** round(math.log2(height / output.shape[-2]))))

    names = [name for name, _ in network.named_modules() if name]
    with _hooks(network, names, note), torch.no_grad():
        network(image)
    found = []
    for wanted in strides:
        reached = next((place for place, (_, stride) in enumerate(seen) if stride == wanted), None)
        if reached is None:
            raise ValueError(f"{type(network).__name__} has no output of 1/{wanted} of the height of the image.")
        # Other strides are those of modules that pool a block to weigh its channels.
        ends = (place for place in range(reached, len(seen)) if seen[place][1] in (2 * wanted, wanted // 2))
        stop = next(ends, len(seen))
        names = [name for name, stride in seen[reached:stop] if stride == wanted]
        found.append(min(reversed(names), key=lambda name: name.count(".")))
    return found


def pooled_features(network: nn.Module, layers: Sequence[str], images: torch.Tensor) -> torch.Tensor:
    """Means over the slice of the outputs of layers, one after the other; what follows the last layer is not run.

    Args:
        network: in evaluation mode, on the device of the images.
        layers: as `encoder_layers` gives them.
        images: as the network gets them.

    Shape:
        - images: (B, C, H, W)
        - output: (B, channels of all layers), float32

    Raises:
        AttributeError: there is no such layer.
    """
    found: list[torch.Tensor] = []

    def keep(_images: torch.Tensor, features: torch.Tensor) -> None:
        found.append(features)
        raise _Enough

    with features_of_passes(network, layers, keep), torch.no_grad(), suppress(_Enough):
        network(images)
    return found[0]


@contextmanager
def features_of_passes(
    network: nn.Module, layers: Sequence[str], receive: Callable[[torch.Tensor, torch.Tensor], None]
) -> Iterator[None]:
    """Call a function with the pooled features of every pass of the network in the context, see `pooled_features`.

    Args:
        receive: gets the images and their features, as soon as the last layer has run.
    """
    outputs, images = dict[str, torch.Tensor](), list[torch.Tensor]()

    def begin(_network: nn.Module, inputs: tuple[Any, ...]) -> None:
        outputs.clear()
        images[:] = inputs[:1]

    def keep(name: str, output: torch.Tensor) -> None:
        outputs[name] = output.detach().float().mean(dim=(2, 3))
        if len(outputs) == len(layers):
            receive(images[0], torch.cat([outputs[each] for each in layers], dim=1))

    handle = network.register_forward_pre_hook(begin)
    try:
        with _hooks(network, layers, keep):
            yield
    finally:
        handle.remove()


@contextmanager
def _hooks(network: nn.Module, names: Sequence[str], call: Callable[[str, Any], None]) -> Iterator[None]:
    def hook(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: call(name, output)

    handles = [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
