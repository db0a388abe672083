"""Where in a slice the evidence for its class lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.visualize import GradCAM
from torch import nn

from ..io.atomic import atomic_write
from ..near_names import near_names

__all__ = ["draw_gradcam", "gradcam_of"]

MOST_SLICES, PER_ROW = 12, 4


def gradcam_of(network: nn.Module, layer: str) -> GradCAM:
    """MONAI's Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391) of a layer.

    Activations of the network no longer work in place from here on: what follows the layer would write over the output
    that the gradient is asked of.

    Args:
        network: a classifier, (B, 3, H, W) to logits (B, C).
        layer: path of a module as in ``network.named_modules()``, with an output (B, channels, height, width).

    Raises:
        ValueError: there is no such module, the message holds the nearest existing ones; or, when the network runs, its
            output has no height and width.
    """
    modules = dict(network.named_modules())
    kind = type(network).__name__
    if layer not in modules or layer == "":
        near = near_names(layer, modules, most=4, cutoff=0.3)
        raise ValueError(f"gradcam_layer: {kind} has no module '{layer}'{near}.")

    def check(_module: nn.Module, _inputs: tuple, output: object) -> None:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            found = tuple(output.shape) if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
            raise ValueError(
                f"gradcam_layer: '{layer}' of {kind} returns {found}, not (batch, channels, height, width); choose a "
                "layer of convolutions, before the mean over positions."
            )

    modules[layer].register_forward_hook(check)
    for module in network.modules():
        if getattr(module, "inplace", False):
            setattr(module, "inplace", False)  # noqa: B010 (no attribute of every module)
    return GradCAM(nn_module=network, target_layers=layer)


def draw_gradcam(
    gradcam: GradCAM,
    image: torch.Tensor,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    path: str | Path,
    title: str = "",
) -> None:
    """Draw what the network sees, and beside it where the evidence for its most probable class lies.

    Args:
        gradcam: of the network, see `gradcam_of`.
        image: (3, H, W) or (3, H, W, slices), as the network gets it.
        probabilities: (C, slices), that the network gave; they choose the class of the map, which by itself may come
            out another one where the network ran in half precision.
        class_names: C names.
        path: the PNG to write; at most 12 slices, evenly chosen and counted from 1.
        title: above the picture.
    """
    volume = image if image.ndim == 4 else image[..., None]
    count = volume.shape[-1]
    slices = np.linspace(0, count - 1, min(MOST_SLICES, count)).round().astype(int).tolist()
    columns = min(PER_ROW, len(slices))
    grid = (-(-len(slices) // columns), 2 * columns)
    figure = Figure(figsize=(2.6 * grid[1], 2.9 * grid[0] + 0.4), layout="constrained", facecolor="black")
    cells = figure.subplots(*grid, squeeze=False).reshape(-1, 2)
    for axes in cells.flat:
        axes.axis("off")
    for (plain, mapped), number in zip(cells, slices, strict=False):
        best = int(probabilities[:, number].argmax())
        # Pictures have x to the right.
        picture = volume[0, ..., number].cpu().numpy().T
        with torch.enable_grad():
            # A frozen network has gradients at its layers only if its input requires them.
            one = volume[None, ..., number].clone().requires_grad_()
            found = np.asarray(gradcam(x=one, class_idx=best))[0, 0].T
        # MONAI's map is 0 where the evidence is strongest, and also everywhere when there is none.
        heat = 1 - found if np.ptp(found) > 0 else np.zeros_like(found)
        for axes in (plain, mapped):
            axes.imshow(picture, cmap="gray")
        mapped.imshow(heat, cmap="inferno", alpha=0.5, vmin=0, vmax=1)
        said = f"{class_names[best]} {probabilities[best, number]:.2f}"
        caption = said if count == 1 else f"slice {number + 1} of {count}: {said}"
        mapped.set_title(caption, fontsize=8, color="white", parse_math=False)
    figure.suptitle(title, fontsize=9, color="white", parse_math=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
