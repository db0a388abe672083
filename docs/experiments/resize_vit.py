"""Write the weights of a teacher of study.py for another image size, to start a training from them.

    python docs/experiments/resize_vit.py runs/seg_hybrid_alone_fold4_seed0_epochs10_size128/model.pt 256 START/model.pt

The transformer sees seven eighths of the image, as in study.py. Its position embeddings, one a patch, are interpolated
by timm's `resample_abs_pos_embed`; no other weight depends on the size. The settings are written beside them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from timm.layers import resample_abs_pos_embed

from monai_kd.bundle.trained import trained_settings
from monai_kd.config.errors import one_line_errors
from monai_kd.io.checkpoints import read_checkpoint
from monai_kd.io.trained import MEASURED, save_trained


def resize(checkpoint: str, size: int, resized: str) -> None:
    """Write the weights, and the settings, of a network for images of ``size`` pixels.

    Raises:
        ValueError: the file is there, the network has no Vision Transformer, or the size does not fit its patches.
    """
    if Path(resized).exists():
        raise ValueError(f"{resized} exists already: give another file.")
    settings = {name: value for name, value in trained_settings(checkpoint).items() if name not in MEASURED}
    weights = read_checkpoint(checkpoint)
    network = dict(settings["network_def"])
    patches = [value for name, value in weights.items() if name.endswith("patch_embed.proj.weight")]
    embeddings = [name for name in weights if name.endswith("pos_embed")]
    if len(patches) != 1 or len(embeddings) != 1 or "vit_image_size" not in network:
        raise ValueError(f"{checkpoint} is no network with one Vision Transformer and a vit_image_size.")
    side, patch = size * 7 // 8, patches[0].shape[-1]
    if side % patch:
        raise ValueError(f"{side}, seven eighths of {size} pixels, is no multiple of the side of a patch, {patch}.")
    weights[embeddings[0]] = resample_abs_pos_embed(weights[embeddings[0]], [side // patch] * 2)
    network["vit_image_size"] = side
    Path(resized).parent.mkdir(parents=True, exist_ok=True)
    save_trained(weights, resized, {**settings, "image_size": size, "network_def": network})


@one_line_errors
def main(words: list[str]) -> int:
    if len(words) != 3 or not words[1].isdecimal():
        print(__doc__, file=sys.stderr)
        return 2
    resize(words[0], int(words[1]), words[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
