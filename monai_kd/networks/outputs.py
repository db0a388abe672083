"""Find the logits in the output of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from .class_outputs import class_logits

__all__ = ["ACTIVATIONS", "all_logits", "main_logits", "student_outputs"]

ACTIVATIONS = ("sigmoid", "softmax")


def all_logits(output: Any, network: Any, axes: int) -> list[torch.Tensor]:
    """All logits of an output, the main ones first.

    ========================================================  =====================================================
    output                                                    logits
    ========================================================  =====================================================
    tensor of at most ``axes`` axes                           the tensor
    tensor of ``axes`` + 1 axes, (B, heads, C, …)             each head; the first is the main one (MONAI's
                                                              ``DynUNet`` in training)
    list or tuple, its first item a tensor                    that tensor, and those of the others that have its
                                                              batch, classes and number of axes (deep supervision);
                                                              the rest, such as hidden states, is ignored
    the same, of MONAI's ``BasicUNetPlusPlus``                as before, from the last item to the first: its heads
                                                              are sorted from the shallowest to the deepest
    mapping with ``out`` (torchvision's segmentations)        that of ``out``, and of ``aux`` where it is there
    ========================================================  =====================================================

    Args:
        output: the output of the network.
        network: the network, bare or wrapped for distribution or compilation.
        axes: axes of the batch of images that the network was called with: 4 for (B, C, H, W).

    Raises:
        TypeError: the output is something else.

    Example:
        >>> heads = torch.zeros(2, 3, 1, 8, 8)
        >>> [tuple(each.shape) for each in all_logits(heads, nn.Identity(), axes=4)]
        [(2, 1, 8, 8), (2, 1, 8, 8), (2, 1, 8, 8)]
    """
    if isinstance(output, Mapping) and "out" in output:
        output = [output["out"], *([output["aux"]] if "aux" in output else [])]
    if isinstance(output, torch.Tensor):
        if 2 <= output.ndim <= axes:
            return [output]
        if output.ndim == axes + 1:
            return list(output.unbind(1))
    elif isinstance(output, (list, tuple)) and output:
        heads = output[::-1] if isinstance(_bare(network), BasicUNetPlusPlus) else output
        main = heads[0]
        if isinstance(main, torch.Tensor) and 2 <= main.ndim <= axes:
            return [main, *(each for each in heads[1:] if _alike(each, main))]
    raise TypeError(
        f"{_name(network)} returned {_described(output)} for a batch of {axes} axes. Logits are a tensor (B, classes, "
        "…) of at most as many axes, heads stacked on axis 1, a list or tuple that begins with the main logits, or a "
        "mapping with 'out': put the network into a module whose forward returns one of these."
    )


def main_logits(output: Any, network: Any, axes: int) -> torch.Tensor:
    """The first of `all_logits`: those to evaluate, and to distil.

    Example:
        >>> main_logits((torch.zeros(2, 1, 8, 8), ["hidden"]), nn.Identity(), axes=4).shape
        torch.Size([2, 1, 8, 8])
    """
    return all_logits(output, network, axes)[0]


def student_outputs(output: Any, network: Any, axes: int) -> dict[str, Any]:
    """Items for a `DistillationLoss`: the main logits ``student`` and, if there are several heads, ``student_heads``.

    Of a network of masks, `class_logits` are ``student_classes``.

    Example:
        >>> sorted(student_outputs([torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4)], nn.Identity(), axes=4))
        ['student', 'student_heads']
    """
    logits = all_logits(output, network, axes)
    items: dict[str, Any] = {"student": logits[0], **({"student_heads": logits} if len(logits) > 1 else {})}
    classes = class_logits(output) if logits[0].ndim > 2 else None
    return items if classes is None else {**items, "student_classes": classes}


def _alike(head: Any, main: torch.Tensor) -> bool:
    return isinstance(head, torch.Tensor) and head.ndim == main.ndim and head.shape[:2] == main.shape[:2]


def _bare(network: Any) -> Any:
    """The network without the wrappers of distribution and compilation, which do not change its output."""
    while True:
        if isinstance(network, (DataParallel, DistributedDataParallel)):
            network = network.module
        elif isinstance(network, nn.Module) and hasattr(network, "_orig_mod"):  # of torch.compile
            network = network._orig_mod
        else:
            return network


def _name(network: Any) -> str:
    bare = _bare(network)
    return getattr(bare, "__name__", type(bare).__name__)


def _described(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor {tuple(output.shape)}"
    if isinstance(output, Sequence) and not isinstance(output, str):
        inside = ", ".join(_described(each) for each in output[:4])
        return f"a {type(output).__name__} of {len(output)} ({inside}{', …' if len(output) > 4 else ''})"
    return f"a {type(output).__name__}"
