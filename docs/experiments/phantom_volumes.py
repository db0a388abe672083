"""Count what a segmentation marks in volumes of drawn heads; see docs/examinations.md.

    python docs/experiments/phantom_volumes.py bundles/seg_student/models/model.pt [--volumes 12] [--seed 0]

Each volume is a head of `data_prep phantom`: its four slices with a tumour, and four without on either side, 6 mm
apart. Printed is, without the presence rule and with it, how many slices of both kinds have a mark. Images that look
unlike the training slices are judged all the same, and how many these are is printed too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from robustness import noise

from data_prep.phantom import draw_head, phantom_slices
from monai_kd.config.errors import one_line_errors
from monai_kd.inference import BundlePredictor, finding_of, read_image
from monai_kd.inference.input_kind import UNFAMILIAR

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "seg_student"
BESIDE = 4
SPACING = (0.8, 0.8, 6.0)


def volume(patient: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask, (X, Y, slices), of one head."""
    drawn = phantom_slices(patient, seed)
    head, rng = draw_head(patient, seed, len(drawn[0].image))[0], np.random.default_rng([seed, patient])
    slices = [(each.image / each.image.max(), each.mask > 0) for each in drawn]
    free = []
    for k in [*range(-BESIDE, 0), *range(len(drawn), len(drawn) + BESIDE)]:
        image = noise(head.slice_at(0.2 * k), 0.015, rng)
        free.append((image / image.max(), np.zeros(image.shape, bool)))
    slices = [*free[:BESIDE], *slices, *free[BESIDE:]]
    image, mask = (np.stack([pair[n].T for pair in slices], -1) for n in (0, 1))
    return image.astype(np.float32), mask


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--volumes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    drawn = [volume(patient, given.seed) for patient in range(given.volumes)]
    has = np.concatenate([mask.any((0, 1)) for _, mask in drawn])
    for name, rule in (("without the rule", {"presence_threshold": 0}), ("with the rule", {})):
        predictor = BundlePredictor(BUNDLE, given.checkpoint, device="cpu", judge_unfit=True, **rule)
        marked, unlike = [], 0
        for image, _ in drawn:
            with tempfile.TemporaryDirectory() as folder:
                # Columns go left, rows go back, as data_prep writes slices.
                nib.save(nib.Nifti1Image(image, np.diag([*SPACING, 1]) * [-1, -1, 1, 1]), f"{folder}/head.nii.gz")
                finding = finding_of(predictor(*read_image(f"{folder}/head.nii.gz")), predictor.mask_names)
            marked.append(finding.masks.any(axis=(0, 1, 2)))
            # Weights without familiarity.safetensors give no distance.
            unlike += finding.found.get("feature_distance", 0) >= UNFAMILIAR
        found = np.concatenate(marked)
        print(
            f"{name}: marks on {np.sum(found & has)} of the {np.sum(has)} slices with a tumour, and on "
            f"{np.sum(found & ~has)} of the {np.sum(~has)} without; {unlike} of {given.volumes} volumes look unlike "
            "the training slices"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
