"""``python -m monai_kd precision``: what half precision costs a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.errors import one_line_errors
from ..io.trained import add_settings

__all__ = ["MAX_LOSS", "run_precision"]

MAX_LOSS = 0.005
"""Largest loss of Dice, over all and in each class, or of accuracy, with which half precision is the default."""


@one_line_errors
def run_precision(float32: Path, half: Path, checkpoint: Path | None = None) -> int:
    """Print what half precision costs a network, and add it to the settings of its weights as ``half_precision``.

    It is the mean of the metric in float32 minus that in half precision: of a segmentation the Dice of a slice or
    volume, over all and of each class; of a classification the accuracy. Inference then uses half precision by default
    where the loss is small, see `monai_kd.bundle.precision.amp_by_default`.

    Args:
        float32, half: output folders of ``evaluate.json`` for the same weights and slices, with ``--amp False`` and
            ``--amp True``.
        checkpoint: the weights; by default where they were when they were evaluated.

    Returns:
        The exit code: 0, or 2 if they can't be compared or the settings can't be written, with the reason on stderr.
    """
    evaluated, measured = _measure(Path(float32).expanduser(), Path(half).expanduser())
    weights = evaluated if checkpoint is None else Path(checkpoint).expanduser()
    add_settings(weights, {"half_precision": measured})
    for name, lost in measured["lost"].items():
        print(f"{name}: {measured['metric']} {abs(lost):.4f} {'lower' if lost > 0 else 'higher'} in half precision")
    default = max(measured["lost"].values()) <= MAX_LOSS
    print(
        f"added to {weights.with_name('settings.json')}. Inference uses half precision by default "
        f"{'where the processor has it' if default else 'nowhere'}: at most {MAX_LOSS} may be lost."
    )
    return 0


def _measure(float32: Path, half: Path) -> tuple[Path, dict[str, Any]]:
    """The weights, and what is recorded of them."""
    first, second = (_read(folder, amp) for folder, amp in ((float32, False), (half, True)))
    if first["checkpoint"]["sha256"] != second["checkpoint"]["sha256"]:
        raise ValueError(f"{float32} and {half} are of different weights: evaluate the same checkpoint twice.")
    one, other = ({**each["settings"], **each["dataset"], "amp": None} for each in (first, second))
    if differ := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
        raise ValueError(f"{float32} and {half} also differ in {', '.join(differ)}: evaluate both alike but for --amp.")
    metric, before = _scores(first)
    _, after = _scores(second)
    lost = {name: before[name] - after[name] for name in before if name in after}
    if "all" not in lost:
        raise ValueError(f"in {float32} or {half} no slice has a tumour, so that there is no Dice to compare.")
    measured = {"metric": metric, "lost": lost, "measured_on": _which(first), "notes": first["notes"]}
    return Path(first["checkpoint"]["path"]), measured


def _which(found: Mapping[str, Any]) -> str:
    data = found["dataset"]
    folds = "all folds" if data["fold"] is None else f"fold {data['fold']} (counted from 0)"
    without = "".join(f" without {each}" for each in data["leave_out"])
    return f"{data['name']}, {folds}{without}"


def _read(folder: Path, amp: bool) -> dict[str, Any]:
    """What an evaluation measured, with or without ``amp``."""
    file = folder / "metrics.json"
    if not file.is_file():
        raise FileNotFoundError(f"there is no {file}: give a folder that evaluate.json wrote.")
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        given = found["settings"]["amp"]
        _scores(found), _which(found), found["checkpoint"]["sha256"], Path(found["checkpoint"]["path"]), found["notes"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} was not written by an evaluation ({error!r}); evaluate again.") from error
    if given is not amp:
        raise ValueError(
            f"{folder} was evaluated with --amp {given}, and in its place one with --amp {amp} is needed: give first "
            "the evaluation in float32, then the other."
        )
    return found


def _scores(found: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """The metric, and its mean over all and for each class, of those for which it is defined."""
    if "overall" not in found:
        return "accuracy", {"all": found["over_slices"]["metrics"]["accuracy"]["value"]}
    groups = {"all": found["overall"], **found["classes"], **found.get("masks", {})}
    means = {name: group["metrics"]["dice"] for name, group in groups.items()}
    over = {name: (each.get("over_slices") or each["over_volumes"])["mean"] for name, each in means.items()}
    return "Dice", {name: mean for name, mean in over.items() if mean is not None}
