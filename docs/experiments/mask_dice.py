"""Dice of a folder of masks, such as `predict.py` of an export writes, with those of a data set.

    python docs/experiments/mask_dice.py DATA MASKS [MASKS ...]

prints for each folder the mean Dice over the slices of the data list that have a mask of a tumour and a file
``<name>_mask.nii.gz`` there, all together and by class, and how many of these masks are not empty. A mask that is empty
where there is a tumour has a Dice of 0.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_kd.config.errors import one_line_errors
from monai_kd.data import class_name, class_names, read_datalist
from monai_kd.io import read_image
from monai_kd.io.kinds import stem_of


def dice_of(data: Path, masks: Path) -> list[tuple[str, float, bool]]:
    """Of each slice the name of its class, the Dice, and whether its mask marks anything.

    Raises:
        FileNotFoundError, ValueError: as `read_datalist`.
        ValueError: no slice of the data list has a mask in the folder.
    """
    found, names = [], class_names(data)
    for entry in read_datalist(data)["training"]:
        path = masks / f"{stem_of(Path(entry['image']).name)}_mask.nii.gz"
        if not path.is_file() or "label" not in entry:
            continue
        mask, true = (read_image(each, constant=True)[0] > 0 for each in (path, data / entry["label"]))
        if true.any():
            dice = 2 * np.count_nonzero(mask & true) / (np.count_nonzero(mask) + np.count_nonzero(true))
            found.append((class_name(names, entry["class"]), dice, bool(mask.any())))
    if not found:
        raise ValueError(f"{masks} holds no <name>_mask.nii.gz of a slice of {data}.")
    return found


@one_line_errors
def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    for folder in arguments[1:]:
        slices = dice_of(Path(arguments[0]), Path(folder))
        by_class = defaultdict(list)
        for name, dice, _ in slices:
            by_class[name].append(dice)
        shown = ", ".join(f"{name} {np.mean(each):.4f}" for name, each in by_class.items())
        dice, marked = (np.mean([each[place] for each in slices]) for place in (1, 2))
        print(f"{folder}: Dice {dice:.4f} ({shown}); a mask on {100 * marked:.1f} % of {len(slices)} slices")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
