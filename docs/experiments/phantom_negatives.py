"""Write slices of drawn heads without a tumour as a folder for `negatives_dir`.

    python docs/experiments/phantom_negatives.py PHANTOMS [--slices 548] [--seed 0]

The heads are those of `data_prep phantom`, with its vessels and sinuses, four slices each, 256 × 256, with noise; no
tumour is painted into them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from robustness import noise

from data_prep.dataset import DATALIST, write_datalist
from data_prep.phantom import SLICES_PER_PATIENT
from data_prep.phantom_head import VIEWS, Head
from data_prep.writers import nifti_gz_bytes, write_file

SIZE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, default=548)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.slices < 1 or given.folder.exists():
        parser.error(f"give one slice at least, and a new folder; got {given.slices} and {given.folder}.")
    (given.folder / "images").mkdir(parents=True)
    entries: list[dict[str, object]] = []
    for number in range(given.slices):
        patient, k = divmod(number, SLICES_PER_PATIENT)
        if k == 0:
            rng = np.random.default_rng([given.seed, patient])
            head = Head(VIEWS[patient % len(VIEWS)], SIZE, rng)
            strength = rng.uniform(0.008, 0.03)
        image = noise(head.slice_at(0.2 * k), strength, rng)
        whole = np.rint(image / image.max() * np.iinfo(np.uint16).max).astype(np.uint16)
        source, file = f"phantom_{number:04}", f"images/phantom_{number:04}.nii.gz"
        write_file(given.folder / file, nifti_gz_bytes(whole, spacing=(0.8, 0.8, 5.0)))
        who = f"phantom{patient:04}"
        entries.append({"image": file, "tumour": False, "patient": who, "group": who, "fold": 0, "source": source})
    top = {
        "name": "phantoms without a tumour",
        "description": "Drawn heads without a tumour, no patients, see phantom_negatives.py.",
        **{"synthetic": True, "labels": {"1": "no tumour"}, "numTraining": len(entries)},
    }
    write_datalist(given.folder / DATALIST, top, entries)


if __name__ == "__main__":
    main()
