"""The slices of one part of a cross-validation split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from .datalist import check_inside, placed, read_datalist
from .foreign_lists import datalist_path
from .leaks import warn_of_leaks
from .negatives import with_negatives
from .unlabelled import hide_labels, is_labelled, with_unlabelled

__all__ = ["load_fold"]


def load_fold(
    dataset_dir: str | Path,
    fold: int | None,
    part: str,
    leave_out: Sequence[int] = (),
    allow_outside: bool = False,
    keys: Sequence[str] = ("image", "label"),
    channel_files: bool = False,
    labelled_share: float = 1.0,
    unlabelled: bool = False,
) -> list[dict]:
    """Entries of one part of a cross-validation split, or of the whole data list, with absolute paths.

    For the training part, a warning is logged for patients and images that are also among the slices held out, see
    `find_leaks`.

    An entry with ``"tumour": false`` is a slice without a tumour. It needs no ``class``, which becomes that of "no
    tumour" in ``labels`` or else the number after the last one, and no ``label``, which becomes the path of its own
    image: `monai_kd.transforms.EmptyOwnMaskd` reads that as an empty mask. All other entries get ``"tumour": True``.

    An entry with ``"labelled": false`` is an image without a label, which only a teacher can use. It needs nothing else
    but its ``image``, see `identified`, and is left out, with a warning, or kept with what `with_unlabelled` adds.

    Args:
        dataset_dir: folder with ``datalist.json``.
        fold: the validation fold, from 0; the network is trained on all others. Ignored for ``"all"``.
        part: ``"training"``, ``"validation"`` or ``"all"``.
        leave_out: folds that are not used, such as those kept for a final test.
        keys: keys of the files that each entry must have; ``image`` and ``label`` are removed from the entries
            otherwise.
        allow_outside: whether files may be outside the folder, see `read_datalist`.
        channel_files: whether ``image`` may be a list with a file for each channel; then all must have labels.
        labelled_share: share of the patients that keep their labels, for experiments, see `hide_labels`. Those of the
            validation part all do.
        unlabelled: whether images without a label are kept, which they never are for the validation.

    Raises:
        FileNotFoundError: the folder, its data list or a listed file does not exist.
        ValueError: there is no such fold, the fold is also left out, the requested part is empty, an entry names no
            file for one of the keys, or one outside the folder, or the image of a slice with a tumour as its label;
            or ``labelled_share`` is not above 0 and up to 1.
    """
    if part not in ("training", "validation", "all"):
        raise ValueError(f"part must be 'training', 'validation' or 'all', got '{part}'.")
    folder = Path(dataset_dir).expanduser().resolve()
    datalist = read_datalist(folder, allow_outside)
    entries = datalist["training"]
    if not allow_outside:
        check_inside(folder, entries, [key for key in keys if key not in ("image", "label")])
    # Images without a label may be of no fold.
    folds = sorted({entry["fold"] for entry in entries} - {None})
    if isinstance(leave_out, (int, str)) or not set(leave_out) <= set(folds):
        raise ValueError(
            f"leave_out must be a list of folds, such as {folds[:1] or [0]}, and {folder} has the folds {folds}; got "
            f"{leave_out!r}."
        )
    without = f" without {list(leave_out)}" if leave_out else ""
    if part != "all" and (fold not in folds or fold in leave_out):
        raise ValueError(f"fold: {folder} has the folds {folds}{without}; {fold} is none of them.")
    chosen = [
        entry
        for entry in entries
        if (part == "all" or (entry["fold"] == fold) == (part == "validation")) and entry["fold"] not in leave_out
    ]
    if not chosen and part == "all":
        raise ValueError(f"no slices: {folder} has the folds {folds}, and all are left out.")
    if not chosen:
        raise ValueError(f"no {part} slices: {folder} has the folds {folds}, and fold {fold} validates.")
    if part != "validation":
        chosen = hide_labels(chosen, labelled_share)
    if not channel_files:
        chosen = with_negatives(chosen, datalist, datalist_path(folder))
        chosen = with_unlabelled(chosen, unlabelled and part != "validation", part, datalist_path(folder))
    elif not all(map(is_labelled, chosen)):
        raise ValueError(
            f"{datalist_path(folder)}: all volumes need labels: labelled_share must be 1, and no entry may have "
            '"labelled": false, which are for slices.'
        )
    if not chosen:
        raise ValueError(f"none of the {part} images of {datalist_path(folder)} has a label.")
    for entry in chosen:
        if lacking := [key for key in keys if not _names_files(entry.get(key), channel_files and key == "image")]:
            also = ", or a list with one for each channel" if channel_files and lacking[0] == "image" else ""
            raise ValueError(
                f"{datalist_path(folder)}: the entry {entry} has no '{lacking[0]}'; it must be the path of a file"
                f"{also}."
            )
    chosen = [
        {name: value for name, value in entry.items() if name not in ("image", "label")}
        | {key: placed(folder, entry[key]) for key in keys}
        for entry in chosen
    ]
    listed = [path for entry in chosen for key in keys for path in ensure_tuple(entry[key])]
    absent = [path for path in listed if not Path(path).is_file()]
    if absent:
        raise FileNotFoundError(f"{datalist_path(folder)} lists {len(absent)} files that do not exist: {absent[0]} …")
    if part == "training":
        held_out = [
            {**entry, "image": placed(folder, entry["image"])}
            for entry in entries
            if (entry["fold"] == fold or entry["fold"] in leave_out) and is_labelled(entry)
        ]
        warn_of_leaks(chosen, held_out)
    return chosen


def _names_files(value: Any, several: bool) -> bool:
    if several and isinstance(value, list):
        return bool(value) and all(isinstance(each, str) for each in value)
    return isinstance(value, str)
