"""``python -m monai_kd ensemble``: checkpoints of several networks as one checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.text import printable

from ..config import without_pretrained
from ..config.errors import one_line_errors
from ..handlers.run_settings import DATA
from ..io.atomic import check_new_folder
from ..io.checksum import file_sha256
from ..io.trained import BODY_PART, HASH, read_trained, save_trained
from ..networks import Ensemble
from .checkpoint import is_synthetic
from .trained import named_network, task_of, trained_settings, tried

__all__ = ["make_ensemble", "run_ensemble"]

logger = logging.getLogger(__name__)

# What networks must share to see the same image, and to say the same about it.
_OF_MASKS = ("volumes", "multiclass", "activation", "mask_names")
_SAME = ("image_size", "spatial_dims", "in_channels", "mean", "std", "class_names", BODY_PART, *_OF_MASKS)
# Settings of each network that the ensemble repeats.
_KEPT = ("bundle", "recipe", "epochs", "seed", "negative_probability", "ensemble_of")
# Of each network and of its teacher, which slices they have seen, without a path of this computer.
_SEEN = (DATA, "fold", "leave_out")


def make_ensemble(checkpoints: Sequence[str | Path], output_dir: str | Path) -> Path:
    """Write checkpoints of several networks as that of one `monai_kd.networks.Ensemble`, and return its path.

    It can be used wherever one of them can: as a teacher, to evaluate, and to infer. Its taps are those of the first
    network, so that terms of a recipe that compare features compare with this network alone. Its ``fold`` and
    ``leave_out`` are the folds that none of the networks was trained on, nor a teacher of one of them. Where the data
    sets differ, it has none: ``ensemble_of``, what is kept of each network, then tells what it has seen, see
    `monai_kd.data.trainings`.

    Args:
        checkpoints: two or more, each with ``settings.json`` beside it.
        output_dir: new folder, for ``model.pt`` and ``settings.json``.

    Raises:
        FileExistsError: the folder is not empty.
        FileNotFoundError: there is no such checkpoint.
        ValueError: there are fewer than two, one has no settings, is given twice, has another number of output channels
            than its settings name, or is none that `build_network` builds for a file; or they have different input,
            masks or classes, or outputs of different shapes.
    """
    paths, folder = [Path(each).expanduser() for each in checkpoints], Path(output_dir).expanduser().absolute()
    if folder.is_file() or len(paths) < 2:
        raise ValueError("an ensemble has two checkpoints or more, and the last argument is a new folder.")
    check_new_folder(folder)
    members = [trained_settings(path) for path in paths]
    tasks = [task_of(read_trained(path) or {}) or "segmentation" for path in paths]
    for path, each, task in zip(paths[1:], members[1:], tasks[1:], strict=True):
        if task != tasks[0]:
            raise ValueError(f"{paths[0]} is of a {tasks[0]}, and {path} of a {task}.")
        if other := [name for name in _SAME if each[name] != members[0][name]]:
            values = "; ".join(f"{name} {members[0][name]} and {each[name]}" for name in other)
            raise ValueError(f"an ensemble has one input and one kind of output: {paths[0]} and {path} have {values}.")
    # Settings of earlier versions have no hash; of others, it was checked when they were read.
    hashes = [each.get(HASH) or file_sha256(path) for path, each in zip(paths, members, strict=True)]
    for number, sha256 in enumerate(hashes):
        if (first := hashes.index(sha256)) < number:
            raise ValueError(f"{paths[first]} and {paths[number]} are the same weights: give each network once.")
    networks = [named_network(each, path) for each, path in zip(members, paths, strict=True)]
    ensemble = Ensemble(networks, _activation(members[0], tasks[0])).eval()
    names = "mask_names" if tasks[0] == "segmentation" else "class_names"
    channels = len(members[0][names]) + (tasks[0] == "segmentation" and members[0]["multiclass"])
    # Before anything is written.
    for path, network in zip(paths, ensemble.networks, strict=True):
        if (found := tried(network, members[0], str(path)).shape[1]) != channels:
            raise ValueError(
                f"{path} has {found} output channels, but {channels} by {names} in settings.json beside it, "
                f"{members[0][names]}: correct {names} there."
            )
    tried(ensemble, members[0], "the ensemble")
    settings = _settings([{**each, HASH: sha256} for each, sha256 in zip(members, hashes, strict=True)], tasks[0])
    folder.mkdir(parents=True, exist_ok=True)
    save_trained(ensemble.state_dict(), folder / "model.pt", settings)
    return folder / "model.pt"


def _settings(members: Sequence[Mapping[str, Any]], task: str) -> dict[str, Any]:
    first, names = members[0], _SAME if task == "segmentation" else _SAME[: -len(_OF_MASKS)]
    network = {
        "_target_": "monai_kd.networks.Ensemble",
        "networks": [without_pretrained(each["network_def"]) for each in members],
        "activation": _activation(first, task),
    }
    data = _shared_data(members)
    unseen = sorted(set.intersection(*map(_unseen, members))) if data else []
    if not data:
        logger.warning(
            "These networks were trained on different data, or on data that are not known: the ensemble has no fold of "
            "its own. Evaluation tells which slices were trained on by those of them whose data list is known."
        )
    elif not unseen:
        logger.warning(
            "Each fold was in the training of one of these networks or of its teacher: no slice of their data is new "
            "to the ensemble."
        )
    taps = first["taps"] and {name: f"networks.0.{path}" for name, path in first["taps"].items()}
    mirror = first["mirror"] if all(each["mirror"] == first["mirror"] for each in members) else []
    return {
        **{"bundle": first.get("bundle"), **data, "synthetic": any(map(is_synthetic, members))},
        **{"fold": unseen[0] if unseen else None, "leave_out": unseen[1:]},
        "allow_outside": any(each.get("allow_outside") for each in members),
        **{"labelled_share": max(each["labelled_share"] for each in members), "network_def": network, "taps": taps},
        **{name: first[name] for name in names},
        **{"mirror": mirror, "ensemble_of": list(map(_kept, members))},
    }


def _kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: settings[name] for name in (HASH, *_KEPT, *_SEEN) if name in settings}
    teacher = settings.get("teacher") or {}
    if teacher.get(DATA) is not None:
        kept["teacher"] = {name: teacher[name] for name in (*_SEEN, "ensemble_of") if name in teacher}
    return kept


def _activation(settings: Mapping[str, Any], task: str) -> str:
    return settings["activation"] if task == "segmentation" else "softmax"


def _shared_data(members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The data set that all were trained on; empty if they differ, or if one of them is not known."""
    lists, folders = ({each.get(name) for each in members} for name in (DATA, "dataset_dir"))
    if len(lists) > 1 or (None in lists and (len(folders) > 1 or None in folders)):
        return {}
    return {name: members[0][name] for name in ("dataset_dir", DATA) if members[0].get(name) is not None}


def _unseen(settings: Mapping[str, Any]) -> set[int]:
    """The folds that neither the network was trained on nor, on the same data, its teacher."""
    unseen, teacher = {settings.get("fold"), *settings.get("leave_out", [])} - {None}, settings.get("teacher")
    return unseen & _unseen(teacher) if teacher and _shared_data([settings, teacher]) else unseen


@one_line_errors
def run_ensemble(checkpoints: Sequence[Path], output_dir: Path) -> int:
    """``python -m monai_kd ensemble``: see `make_ensemble`.

    Returns:
        The exit code: 0, or 2 after an error on stderr.
    """
    print(printable(f"{make_ensemble(checkpoints, output_dir)}: of {len(checkpoints)} networks"))
    return 0
