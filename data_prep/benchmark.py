"""Measure the speed of the conversion against a plain loop of h5py and nibabel."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from data_prep import pool
from data_prep.child import close_idle
from data_prep.convert import ConvertError, convert
from data_prep.sources import scan
from data_prep.writers import SPACING


def benchmark(src: Path, workers: int | None = None) -> str:
    """Convert `src`, a folder of v7.3 slices, both ways into temporary folders and return a table of slices/s.

    Raises:
        ConvertError: `src` is no folder with unpacked `.mat` files, the plain loop can't read one of them (damaged,
            older than v7.3, without a mask), or the conversion failed.
    """
    files = [Path(source.chain[0]) for source in scan(src) if len(source.chain) == 1]
    with tempfile.TemporaryDirectory() as folder:
        start = _clocks()
        slices = plain_loop(files, Path(folder))
        plain, plain_cpu = _clocks() - start
    if not slices:
        raise ConvertError(f"no unpacked v7.3 slices in {src}")
    close_idle()
    with tempfile.TemporaryDirectory() as folder:
        start = _clocks()
        done = convert(src, Path(folder), workers=workers).converted
        # One worker is kept for other conversions; the time of a process counts when it has ended.
        close_idle()
        ours, ours_cpu = _clocks() - start
    used = workers or pool.available_cores()
    return (
        f"{'':34} slices  CPU seconds  seconds  slices/s\n"
        f"{'plain loop, one process':34} {slices:6} {plain_cpu:12.1f} {plain:8.1f} {slices / plain:9.0f}\n"
        f"{f'data_prep figshare, {used} workers':34} {done:6} {ours_cpu:12.1f} {ours:8.1f} {done / ours:9.0f}"
    )


def _clocks() -> NDArray[np.float64]:
    """Wall-clock time, and CPU time of this process and its finished workers, in seconds.

    CPU time hardly depends on the load by other programs.
    """
    used = os.times()
    return np.array([time.perf_counter(), used.user + used.system + used.children_user + used.children_system])


def plain_loop(files: list[Path], dst: Path) -> int:
    """Read with h5py and save with nibabel, without any check; return the number of slices."""
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1])
    slices = 0
    for path in files:
        try:
            with h5py.File(path, "r") as file:
                if "cjdata" not in file:
                    continue
                image, mask = file["cjdata/image"][()], file["cjdata/tumorMask"][()]
        except Exception as error:  # h5py raises a dozen different types
            # Skipping the file in one of the two conversions only would compare different amounts of work.
            raise ConvertError(
                f"the plain loop cannot read {path} ({str(error)[:120]}): use a folder that contains only intact v7.3 "
                "slices with masks"
            ) from None
        nib.save(nib.Nifti1Image(image[..., None], affine), dst / f"{path.stem}_image.nii.gz")
        nib.save(nib.Nifti1Image(mask[..., None], affine), dst / f"{path.stem}_label.nii.gz")
        slices += 1
    return slices
