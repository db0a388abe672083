"""Cross-entropy of the class that a network of masks gives to a whole image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["SliceClassCE"]


class SliceClassCE(nn.Module):
    r"""Cross-entropy of the class logits z of a network of masks, such as `TimmUNet` with ``classes``.

    .. math:: -\mathrm{mean}\, \log \mathrm{softmax}(z)_c

    The class c of an image is that of its entry in the data list; of an image with an empty mask, as where a transform
    took the tumour out, it is the last one, "no tumour".

    Shape:
        - classes: (B, K), logits
        - label: (B, 1 or C, spatial axes …), masks
        - numbers: (B,), the class of each entry, from 0 to K − 1
        - output: scalar

    Raises:
        ValueError: a number is not one of the classes; or, on a CPU, it is the last one and the mask is not empty.

    Example:
        >>> masks = torch.stack([torch.ones(1, 4, 4), torch.zeros(1, 4, 4)])
        >>> logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
        >>> round(float(SliceClassCE()(logits, masks, torch.tensor([0, 0]))), 4)
        0.0002
    """

    inputs = ("student_classes", "label", "class")

    def forward(self, classes: torch.Tensor, label: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        last = classes.shape[1] - 1
        if numbers.device.type == "cpu" and bool(((numbers < 0) | (numbers > last)).any()):
            raise ValueError(
                f"the network gives {last + 1} classes, the last of which is 'no tumour', and an image has the class "
                f"{int(numbers.max())}, counted from 0: network_def must have one more of `classes` than the data list "
                "has labels."
            )
        shown = label.flatten(1).bool().any(dim=1)
        # On a GPU, to look at it would stop the queue of a step: Distillation compares the numbers before.
        if shown.device.type == numbers.device.type == "cpu" and bool((shown & (numbers == last)).any()):
            raise ValueError(
                f"an image with a tumour has the class {last}, counted from 0, which is 'no tumour' for a network with "
                f"{last + 1} classes: network_def must have one more of `classes` than the data list has labels."
            )
        target = torch.where(shown, numbers.to(classes.device, non_blocking=True).long(), last)
        return F.cross_entropy(classes, target)
