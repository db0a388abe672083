"""Print how unlike the training slices images look to a network; see docs/examinations.md.

    python docs/experiments/feature_distances.py seg_student RUN/model.pt DATA --volumes brain1.nii.gz --cut HEADS

The slices of a fold, by default of fold 4; every tenth of them with the grey values of the head inverted; patterns;
volumes as they are and inverted; and the views of each volume of a folder that `data_prep negatives` cut, a view as a
volume, of whose middle half the median counts, without the slices that it inverted. From 1.4 on, an image is not
judged. The weights need a familiarity.safetensors beside them.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.negatives import invert
from monai_kd.config.errors import one_line_errors
from monai_kd.data import load_fold
from monai_kd.inference import BundlePredictor, read_image
from monai_kd.inference.input_kind import UNFAMILIAR, middle_half

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
AFFINE = np.diag([-0.5, -0.5, 5.0, 1.0])


def patterns(side: int = 256) -> dict[str, np.ndarray]:
    """Images of no head, (side, side), from 0 to 1."""
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    return {
        "stripes": (x // 8 % 2).astype(float),
        "checkerboard": ((x // 16 + y // 16) % 2).astype(float),
        "gradient": x / (side - 1),
        "noise": np.random.default_rng(0).random((side, side)),
        "disc": (np.hypot(x - side / 2, y - side / 2) < side / 3).astype(float),
    }


class Distances:
    """The distance of an image by a network; grey values are inverted between its lowest and highest one."""

    def __init__(self, bundle: str, checkpoint: Path) -> None:
        self.predictor = BundlePredictor(BUNDLES / bundle, checkpoint, device="cpu", amp=False, judge_unfit=True)

    def __call__(self, image: np.ndarray, meta: dict, inverted: bool = False) -> float:
        if inverted:
            low, high = np.min(image), np.max(image)
            image = invert((image - low) / max(float(high - low), 1e-6))
        found = self.predictor(image.astype(np.float32), meta).get("examination", {})
        if "feature_distance" not in found:
            raise SystemExit("error: there is no familiarity.safetensors of these weights, see docs/examinations.md.")
        return float(found["feature_distance"])

    def of_pattern(self, image: np.ndarray) -> float:
        meta = {"affine": AFFINE, "original_affine": AFFINE, "spatial_shape": np.asarray(image.shape), "space": "RAS"}
        return self(image, {**meta, "original_channel_dim": float("nan"), "spacing": np.abs(AFFINE.diagonal()[:3])})


def told(name: str, found: Sequence[float]) -> None:
    judged = np.mean(np.array(found) < UNFAMILIAR)
    print(f"{name}: {min(found):.2f} to {max(found):.2f}, median {np.median(found):.2f}; {100 * judged:.0f} % judged")


def of_cut(distance: Distances, folder: str) -> None:
    """By volume and view, the median of the slices that would count of a volume."""
    views: dict[str, list[str]] = defaultdict(list)
    for entry in load_fold(folder, 0, "validation"):
        name, _, number = Path(str(entry["image"])).name.removesuffix(".nii.gz").rpartition("_")
        if number != "inverted":
            views[name].append(str(entry["image"]))
    for name, files in sorted(views.items()):
        found = [distance(*read_image(sorted(files)[n])) for n in middle_half(len(files))]
        print(f"{name}, cut: {np.median(found):.2f}")


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", choices=["seg_student", "cls_student"])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data")
    parser.add_argument("--fold", type=int, default=4, choices=range(1, 5))
    parser.add_argument("--volumes", nargs="*", default=[])
    parser.add_argument("--cut", nargs="*", default=[])
    given = parser.parse_args()
    distance = Distances(given.bundle, given.checkpoint)
    slices = [str(entry["image"]) for entry in load_fold(given.data, given.fold - 1, "validation")]
    told(f"{len(slices)} slices", [distance(*read_image(each)) for each in slices])
    told(f"{len(slices[::10])} of them inverted", [distance(*read_image(each), inverted=True) for each in slices[::10]])
    for name, image in patterns().items():
        print(f"{name}: {distance.of_pattern(image):.1f}")
    for name in given.volumes:
        image, meta = read_image(name)
        print(f"{Path(name).name}: {distance(image, meta):.2f}, inverted {distance(image, meta, inverted=True):.1f}")
    for folder in given.cut:
        of_cut(distance, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
