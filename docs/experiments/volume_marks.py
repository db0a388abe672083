"""Draw what a segmentation marks on each slice of a volume, without and with the presence rule; see examinations.md.

    python docs/experiments/volume_marks.py CHECKPOINT VOLUME LABEL PICTURE.png

draws the area of the tumour, of the marks without the rule and of those with it, slice by slice, and prints the Dice
over the volume.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from monai_kd.inference import BundlePredictor, finding_of, read_image
from monai_kd.io.atomic import atomic_write

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "seg_student"
RULES = {"marked without the rule": {"presence_threshold": 0}, "marked with the rule": {}}


def main(checkpoint: str, volume: str, label: str, picture: str) -> None:
    image, meta = read_image(volume)
    truth = read_image(label)[0] > 0
    pixel_mm2 = float(np.prod(meta["spacing"][:2]))
    masks = {}
    for name, options in RULES.items():
        predictor = BundlePredictor(BUNDLE, Path(checkpoint), device="cpu", **options)
        masks[name] = finding_of(predictor(image, meta), predictor.mask_names).masks.any(axis=0)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots(2, sharex=True, sharey=True)
    slices = np.arange(truth.shape[2]) + 1
    for axis, (name, mask) in zip(axes, masks.items(), strict=True):
        dice = 2 * np.sum(mask & truth) / (np.sum(mask) + np.sum(truth))
        print(f"{name}: Dice over the volume {dice:.3f}")
        axis.bar(slices, truth.sum((0, 1)) * pixel_mm2, 0.8, color="#b0bec5", label="tumour")
        axis.bar(slices, (mask & truth).sum((0, 1)) * pixel_mm2, 0.4, color="#1b8a4b", label="marked, tumour")
        below = (mask & truth).sum((0, 1)) * pixel_mm2
        axis.bar(
            slices, (mask & ~truth).sum((0, 1)) * pixel_mm2, 0.4, below, color="#c62828", label="marked, no tumour"
        )
        axis.set_title(f"{name}, Dice {dice:.2f}", fontsize=9)
        axis.set_ylabel("area, mm²", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_xlabel("slice", fontsize=9)
    axes[1].set_xticks(slices[::2])
    axes[0].legend(fontsize=8, frameon=False)
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, dpi=100)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
