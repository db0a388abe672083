"""Write weights of a network with a Vision Transformer for another image size, to start a training from them.

    python docs/experiments/resize_vit.py runs/seg_hybrid_alone_fold4_seed0_epochs10_size128/model.pt 224 START/model.pt

224 is the side of the image that the transformer sees, `vit_image_size`. Its position embeddings, one a patch, are
interpolated by timm's `resample_abs_pos_embed`; all other weights do not depend on the size.
"""

from __future__ import annotations

import sys

from timm.layers import resample_abs_pos_embed

from monai_kd.io.checkpoints import read_checkpoint, save_checkpoint


def main(checkpoint: str, side: str, resized: str) -> None:
    weights = read_checkpoint(checkpoint)
    (patches,) = (value for name, value in weights.items() if name.endswith("patch_embed.proj.weight"))
    (name,) = (name for name in weights if name.endswith("pos_embed"))
    if int(side) % patches.shape[-1]:
        sys.exit(f"error: {side} is no multiple of the side of a patch, {patches.shape[-1]}.")
    count = int(side) // patches.shape[-1]
    weights[name] = resample_abs_pos_embed(weights[name], [count, count])
    save_checkpoint(weights, resized)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
