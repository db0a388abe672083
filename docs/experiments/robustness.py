"""Evaluate a network on degraded slices: noise, blur, bias field, contrast, resolution, JPEG.

    python docs/experiments/robustness.py DATA runs/seg_lite0_distilled_fold4_seed0/model.pt OUT --fold 4

For each kind and strength, the slices of the fold are degraded in a folder of their own, with their masks as they are,
and evaluated by the bundle's evaluate.json into OUT/<kind>_<strength>. What is there already is not evaluated again. At
the end a table in Markdown is printed. A slice gets the same noise in every call, so that evaluations of two networks
can be compared in pairs: python -m monai_kd compare ONE/noise_0.1 OTHER/noise_0.1
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from monai_kd.config.errors import one_line_errors
from monai_kd.data import is_labelled

ROOT = Path(__file__).resolve().parents[2]
GREY_VALUES = 4095


def noise(image: NDArray, strength: float, generator: np.random.Generator) -> NDArray:
    """Rician noise with a standard deviation of ``strength`` in each part of the complex signal, as in MRI."""
    real, imaginary = generator.normal(scale=strength, size=(2, *image.shape))
    return np.hypot(image + real, imaginary)


def blur(image: NDArray, strength: float, _generator: np.random.Generator) -> NDArray:
    """Gaussian blur with a standard deviation of ``strength`` pixels."""
    return ndimage.gaussian_filter(image, strength)


def bias(image: NDArray, strength: float, generator: np.random.Generator) -> NDArray:
    """Multiplied by a field that falls in a random direction from exp(strength) to exp(-strength)."""
    angle = generator.uniform(0, 2 * np.pi)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in image.shape), indexing="ij")
    along = np.cos(angle) * axes[0] + np.sin(angle) * axes[1]
    return image * np.exp(strength * along / np.abs(along).max())


def contrast(image: NDArray, strength: float, _generator: np.random.Generator) -> NDArray:
    """Grey values to the power of ``strength``."""
    return image**strength


def resolution(image: NDArray, strength: float, _generator: np.random.Generator) -> NDArray:
    """Means over squares of ``strength`` × ``strength`` pixels, interpolated linearly back to the pixels."""
    step = int(strength)
    rows, columns = (side - side % step for side in image.shape)
    means = image[:rows, :columns].reshape(rows // step, step, columns // step, step).mean((1, 3))
    places = np.meshgrid(*((np.arange(side) + 0.5) / step - 0.5 for side in image.shape), indexing="ij")
    return ndimage.map_coordinates(means, places, order=1, mode="nearest")


def jpeg(image: NDArray, strength: float, _generator: np.random.Generator) -> NDArray:
    """Stored as a JPEG of 8 bits with the quality ``strength``."""
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(file, "JPEG", quality=int(strength))
    return np.asarray(Image.open(file), dtype=np.float64) / 255


Degradation = Callable[[NDArray, float, np.random.Generator], NDArray]
KINDS: dict[str, tuple[Degradation, tuple[float, ...]]] = {
    "noise": (noise, (0.05, 0.1, 0.2)),
    "blur": (blur, (1, 2, 4)),
    "bias": (bias, (0.3, 0.6, 1.0)),
    "contrast": (contrast, (0.5, 0.7, 1.5, 2.0)),
    "resolution": (resolution, (2, 4, 8)),
    "jpeg": (jpeg, (50, 20, 10)),
}


def degraded(image: NDArray, kind: str, strength: float, seed: int) -> NDArray[np.int16]:
    """A slice (X, Y) of any grey values, scaled to 0 … 1, degraded, and stored with 12 bits."""
    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros(image.shape)
    found = KINDS[kind][0](scaled, strength, np.random.default_rng(seed))
    return np.rint(np.clip(found, 0, None) * GREY_VALUES).astype(np.int16)


def write_degraded(data: Path, folder: Path, kind: str, strength: float, fold: int) -> None:
    """A data set folder with the degraded slices of one fold, from 0, and their masks.

    Raises:
        ValueError: the data set has no NIfTI files.
    """
    datalist = json.loads((data / "datalist.json").read_text(encoding="utf-8"))
    entries = [
        entry for entry in datalist["training"] if entry.get("fold") == fold and is_labelled(entry) and "label" in entry
    ]
    for number, entry in enumerate(entries):
        if not entry["image"].endswith((".nii", ".nii.gz")):
            raise ValueError(f"{data / entry['image']} is no NIfTI file: convert the slices with --format nifti.")
        for key in ("image", "label"):
            (folder / entry[key]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / entry["label"], folder / entry["label"])
        file = nib.load(data / entry["image"])
        pixels = np.asarray(file.dataobj, dtype=np.float64)
        changed = degraded(pixels.reshape(pixels.shape[:2]), kind, strength, number).reshape(pixels.shape)
        header = file.header.copy()
        header.set_data_dtype(np.int16)
        nib.save(nib.Nifti1Image(changed, file.affine, header), folder / entry["image"])
    (folder / "datalist.json").write_text(json.dumps({**datalist, "training": entries}), encoding="utf-8")


def row(name: str, evaluation: Path) -> str:
    """A line of the table."""
    found = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    if "overall" in found:
        entry = found["overall"]["metrics"]["dice"]["over_slices"]
        value = entry["mean"]
    else:
        entry = found["over_slices"]["metrics"]["accuracy"]
        value = entry["value"]
    low, high = entry["interval_95"] or (float("nan"), float("nan"))
    return f"| {name} | {value:.3f} [{low:.3f}, {high:.3f}] |"


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="data set folder with NIfTI files")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fold", type=int, default=4, help="from 1 (default: 4)")
    parser.add_argument("--bundle", default="seg_student")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    config, lines = ROOT / "bundles" / options.bundle / "configs" / "evaluate.json", []
    for kind in options.kinds:
        for strength in KINDS[kind][1]:
            evaluation = options.out / f"{kind}_{strength}"
            if not (evaluation / "metrics.json").is_file():
                with tempfile.TemporaryDirectory() as folder:
                    write_degraded(options.data, Path(folder), kind, strength, options.fold - 1)
                    command = [sys.executable, "-m", "monai.bundle", "run", "evaluating", "--config_file", str(config)]
                    command += ["--dataset_dir", folder, "--fold", str(options.fold - 1), "--bootstrap", "2000"]
                    command += ["--checkpoint", str(options.checkpoint), "--output_dir", str(evaluation)]
                    code = subprocess.run(command, check=False).returncode
                    if code:
                        return code
            lines.append(row(f"{kind} {strength}", evaluation))
    print("\n".join(["| degradation | mean over slices [95 %] |", "|---|---|", *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
