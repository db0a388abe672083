"""``python -m monai_kd ensemble``: checkpoints of several networks as one checkpoint."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.text import printable

from ..config import without_pretrained
from ..handlers.run_settings import DATA
from ..io.atomic import check_new_folder
from ..io.trained import read_trained, save_trained
from .trained import task_of, trained_network, trained_settings

__all__ = ["make_ensemble", "run_ensemble"]

logger = logging.getLogger(__name__)

# What networks must share to see the same image, and to say the same about it.
_SAME = (
    *("image_size", "spatial_dims", "in_channels", "mean", "std", "volumes"),
    *("multiclass", "activation", "mask_names", "class_names"),
)
# Settings of each network that the ensemble repeats.
_KEPT = ("weights_sha256", "bundle", "recipe", "epochs", "seed", "fold", "leave_out", "negative_probability")


def make_ensemble(checkpoints: Sequence[str | Path], output_dir: str | Path) -> Path:
    """Write checkpoints of several networks as that of one `monai_kd.networks.Ensemble`, and return its path.

    It can be used wherever one of them can: as a teacher, to evaluate, and to infer. Its taps are those of the first
    network, so that terms of a recipe that compare features compare with this network alone. Its ``fold`` and
    ``leave_out`` are the folds that none of the networks was trained on; where there is none, or the data sets differ,
    it counts as a network whose training data is not known.

    Args:
        checkpoints: two or more, each with ``settings.json`` beside it.
        output_dir: new folder, for ``model.pt`` and ``settings.json``.

    Raises:
        FileExistsError: the folder is not empty.
        FileNotFoundError: there is no such checkpoint.
        ValueError: there are fewer than two, one has no settings, or they have different input, masks or classes.
    """
    paths, folder = [Path(each).expanduser() for each in checkpoints], Path(output_dir).expanduser().absolute()
    check_new_folder(folder)
    if len(paths) < 2:
        raise ValueError(f"an ensemble has two checkpoints or more, got {len(paths)}.")
    members = [trained_settings(path) for path in paths]
    tasks = [task_of(read_trained(path) or {}) or "segmentation" for path in paths]
    for path, each, task in zip(paths[1:], members[1:], tasks[1:], strict=True):
        if task != tasks[0]:
            raise ValueError(f"{paths[0]} is of a {tasks[0]}, and {path} of a {task}.")
        if other := [name for name in _SAME if each[name] != members[0][name]]:
            values = "; ".join(f"{name} {members[0][name]} and {each[name]}" for name in other)
            raise ValueError(f"an ensemble has one input and one kind of output: {paths[0]} and {path} have {values}.")
    activation = members[0]["activation"] if tasks[0] == "segmentation" else "softmax"
    networks = [trained_network(each, path) for each, path in zip(members, paths, strict=True)]
    state = {
        f"networks.{number}.{name}": value
        for number, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_trained(state, folder / "model.pt", _settings(members, activation))
    return folder / "model.pt"


def _settings(members: Sequence[Mapping[str, Any]], activation: str) -> dict[str, Any]:
    first = members[0]
    network = {
        "_target_": "monai_kd.networks.Ensemble",
        "networks": [without_pretrained(each["network_def"]) for each in members],
        "activation": activation,
    }
    unseen = sorted(set.intersection(*({each["fold"], *each["leave_out"]} - {None} for each in members)))
    same_data = len({each.get(DATA) for each in members}) == 1
    if not (unseen and same_data):
        unseen = []
        logger.warning(
            "No fold of one data set is unseen by all of these networks: which slices are new to the ensemble is not "
            "known to it."
        )
    data = {name: first[name] for name in ("dataset_dir", DATA) if same_data and name in first}
    taps = first["taps"] and {name: f"networks.0.{path}" for name, path in first["taps"].items()}
    mirror = first["mirror"] if all(each["mirror"] == first["mirror"] for each in members) else []
    return {
        **{"bundle": first.get("bundle"), **data, "synthetic": any(each.get("synthetic") for each in members)},
        **{"fold": unseen[0] if unseen else None, "leave_out": unseen[1:]},
        **{"labelled_share": max(each["labelled_share"] for each in members), "network_def": network, "taps": taps},
        **{name: first[name] for name in _SAME if name in first},
        **{"mirror": mirror, "ensemble_of": [{name: each[name] for name in _KEPT if name in each} for each in members]},
    }


def run_ensemble(checkpoints: Sequence[Path], output_dir: Path) -> int:
    """``python -m monai_kd ensemble``: see `make_ensemble`.

    Returns:
        The exit code: 0, or 2 after an error on stderr.
    """
    try:
        print(printable(f"{make_ensemble(checkpoints, output_dir)}: of {len(checkpoints)} networks"))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
