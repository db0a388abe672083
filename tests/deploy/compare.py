"""Run docs/examples/deploy_app.py on a series, and compare its mask with that of the bundle; see docs/deploy.md.

    python tests/deploy/compare.py CHECKPOINT MODEL.ts

No part of the test run: it needs the MONAI Deploy App SDK, and a checkpoint to compare with.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests")]

from slices import write_dicom  # noqa: E402

from monai_kd.inference import BundlePredictor, read_image  # noqa: E402

SLICES, ROWS, COLUMNS = 5, 96, 80


def write_series(folder: Path) -> None:
    """Ellipses with a bright spot that grows from slice to slice."""
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    head = ((columns - 40) / 34) ** 2 + ((rows - 48) / 42) ** 2 < 1
    header = {"FrameOfReferenceUID": "1.2.3.4", "StudyTime": "101010", "SeriesDescription": "T1", "PatientSex": "O"}
    header |= {"AccessionNumber": "1", "StudyID": "1"}  # the SDK's writer fails without them
    for number in range(SLICES):
        spot = (columns - 52 - number) ** 2 + (rows - 34) ** 2 < (9 + number) ** 2
        image = (head * 300 + spot * 500 + noise.normal(0, 15, head.shape)).clip(0).astype(np.int16)
        place = {"position": (-30.0, -40.0, 6.0 * number), "spacing": (2.0, 2.2)}
        write_dicom(folder / f"{number}.dcm", image, **place, InstanceNumber=number + 1, SeriesNumber=1, **header)


def main(checkpoint: str, model: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        series, output = Path(folder) / "series", Path(folder) / "out"
        write_series(series)
        expected = BundlePredictor(ROOT / "bundles" / "seg_student", checkpoint, device="cpu")(*read_image(series))
        expected = np.asarray(expected["pred"])[0].transpose(2, 1, 0)
        app = [sys.executable, str(ROOT / "docs" / "examples" / "deploy_app.py")]
        subprocess.run([*app, str(series), model, str(output)], check=True)
        (written,) = output.glob("*.dcm")
        sources = [str(pydicom.dcmread(series / f"{number}.dcm").SOPInstanceUID) for number in range(SLICES)]
        segmentation = hd.seg.segread(written)
        found = segmentation.get_pixels_by_source_instance(
            sources, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
        )
    overlap = 2 * np.count_nonzero(found & expected) / (np.count_nonzero(found) + np.count_nonzero(expected))
    print(f"{np.count_nonzero(found)} pixels, the bundle {np.count_nonzero(expected)}, Dice {overlap:.4f}")
    if not expected.any() or overlap < 0.999:
        sys.exit("the masks differ")


if __name__ == "__main__":
    main(*sys.argv[1:])
