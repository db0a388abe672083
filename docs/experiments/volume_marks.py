"""Draw what a segmentation marks on each slice of a volume, without and with the presence rule; see examinations.md.

    python docs/experiments/volume_marks.py CHECKPOINT VOLUME LABEL AREAS.png SLICES.png [THRESHOLD …]

draws the area of the tumour, of the marks without the rule and of those with it, slice by slice, and the slices with
their outlines, and prints the Dice over the volume and how many slices are marked; for each further THRESHOLD of the
presence score, too. Slices are judged together with their neighbours, as inference does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from monai_kd.config.errors import one_line_errors
from monai_kd.inference import BundlePredictor, finding_of, read_image
from monai_kd.io.atomic import atomic_write
from monai_kd.plots.overlays import draw_outline
from monai_kd.transforms import upright_array

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "seg_student"
RULES = {"marked without the rule": {"presence_threshold": 0}, "marked with the rule": {}}


@one_line_errors
def main(checkpoint: str, volume: str, label: str, areas: str, slices: str, *thresholds: str) -> int:
    image, meta = read_image(volume)
    truth = read_image(label)[0] > 0
    pixel_mm2 = float(np.prod(meta["spacing"][:2]))
    masks = {}
    more = {f"marked from {each} on": {"presence_threshold": float(each)} for each in thresholds}
    for name, options in {**RULES, **more}.items():
        predictor = BundlePredictor(BUNDLE, Path(checkpoint), device="cpu", amp=False, **options)
        masks[name] = finding_of(predictor(image, meta), predictor.mask_names).masks.any(axis=0)
        print_marks(name, masks[name], truth)
    masks = {name: masks[name] for name in RULES}
    draw_areas(masks, truth, pixel_mm2, areas)
    draw_slices(*(upright_array(each, meta["affine"]) for each in (image, *masks.values(), truth)), slices)
    return 0


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """The Dice over the volume."""
    area = np.sum(mask) + np.sum(truth)
    return float(2 * np.sum(mask & truth) / area) if area else 1.0


def print_marks(name: str, mask: np.ndarray, truth: np.ndarray) -> None:
    has, marked = (each.any((0, 1)) for each in (truth, mask))
    print(
        f"{name}: {np.sum(marked & has)} of the {np.sum(has)} slices with the tumour, {np.sum(marked & ~has)} of "
        f"the {np.sum(~has)} others; Dice over the volume {overlap(mask, truth):.3f}, over the slices with the tumour "
        f"{overlap(mask[..., has], truth[..., has]):.3f}"
    )


def draw_areas(masks: dict[str, np.ndarray], truth: np.ndarray, pixel_mm2: float, picture: str) -> None:
    """The areas, in mm², of what is marked by each rule."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots(2, sharex=True, sharey=True)
    slices = np.arange(truth.shape[2]) + 1
    for axis, (name, mask) in zip(axes, masks.items(), strict=True):
        axis.bar(slices, truth.sum((0, 1)) * pixel_mm2, 0.8, color="#b0bec5", label="tumour")
        axis.bar(slices, (mask & truth).sum((0, 1)) * pixel_mm2, 0.4, color="#1b8a4b", label="marked, tumour")
        below = (mask & truth).sum((0, 1)) * pixel_mm2
        axis.bar(
            slices, (mask & ~truth).sum((0, 1)) * pixel_mm2, 0.4, below, color="#c62828", label="marked, no tumour"
        )
        axis.set_title(f"{name}, Dice {overlap(mask, truth):.2f}", fontsize=9)
        axis.set_ylabel("area, mm²", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_xlabel("slice", fontsize=9)
    axes[1].set_xticks(slices[::2])
    axes[0].legend(fontsize=8, frameon=False)
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, dpi=100)


def draw_slices(image: np.ndarray, without: np.ndarray, with_rule: np.ndarray, truth: np.ndarray, picture: str) -> None:
    """All slices, upright: outlines of the tumour, of what the rule leaves marked, and of what it takes away."""
    shown = {"tumour": (truth, "#3ddc84"), "marked": (with_rule, "#ff5252")}
    shown["removed by the rule"] = (without & ~with_rule.any((0, 1)), "#ffb300")
    head = [slice(each.min(), each.max() + 1) for each in np.nonzero((image > image.max() / 20).any(axis=2))]
    columns = int(np.ceil(np.sqrt(image.shape[2])))
    rows = -(-image.shape[2] // columns)
    wide, high = (each.stop - each.start for each in head)
    figure = Figure(figsize=(1.7 * columns, (1.7 * high / wide + 0.15) * rows + 0.4), layout="constrained")
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if number < image.shape[2]:
            axes.imshow(image[(*head, number)].T, cmap="gray", vmax=np.percentile(image, 99.8))
            axes.set_title(f"slice {number + 1}", fontsize=7, pad=2)
            for mask, colour in shown.values():
                draw_outline(axes, mask[(*head, number)], colour)
    lines = [Line2D([], [], color=colour, linewidth=2) for _, colour in shown.values()]
    figure.legend(lines, shown, loc="outside lower center", ncols=len(shown), fontsize=8, frameon=False)
    with atomic_write(picture) as temporary:
        figure.savefig(temporary, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
