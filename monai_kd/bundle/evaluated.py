"""The settings and the network of weights that ``evaluate.json`` evaluates: of a run, or described as a teacher is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..data import NO_TUMOUR, class_names, region_values
from ..distillation import AdaptOutput
from ..io.trained import read_trained
from ..networks.outputs import main_logits
from .teacher_output import matched_output
from .teacher_settings import MEANING, described_settings
from .trained import BEFORE, of_segmentation, task_of, trained_network, trained_settings, tried
from .workflow import running

__all__ = ["evaluated_network", "evaluated_settings"]

_ANY_TUMOUR = "tumour"  # the mask of slices whose tumours are not told apart
# Names and activation of all outputs of a described network, of which the data set has some.
_OUTPUTS = "described_outputs"


class _Converted(torch.nn.Module):
    """A network whose logits are converted. Its weights have the names that they have in the checkpoint."""

    def __init__(self, network: torch.nn.Module, adapt: AdaptOutput) -> None:
        super().__init__()
        self.network, self.adapt = network, adapt

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.adapt(main_logits(self.network(image), self.network, image.ndim))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.load_state_dict(*args, **kwargs)


def evaluated_network(
    settings: Mapping[str, Any], checkpoint: str | Path, described: Mapping[str, Any]
) -> torch.nn.Module:
    """The network of `evaluated_settings` with its weights; of a described one, the outputs are those of the settings.

    Raises:
        ValueError: as `trained_network`; or it is described, and its outputs are not those that are described.
    """
    network = trained_network(settings, checkpoint, trusted="network_def" in described)
    own = {**settings, **settings.get(_OUTPUTS, {})}
    if "network_def" in described and Path(checkpoint).expanduser().is_file():
        task = task_of({**(read_trained(checkpoint) or {}), **described})
        names = own["class_names"] if task == "classification" else own["mask_names"]
        wanted = len(names) + (task != "classification" and own["activation"] == "softmax")
        found = tried(network, settings, f"teacher_settings: {type(network).__name__}").shape[1]
        if found != wanted:
            raise ValueError(
                f"teacher_settings: {type(network).__name__} has {found} outputs, and {wanted} are described: one for "
                f"each of {', '.join(names)}, and one for the background where activation is softmax."
            )
    if _OUTPUTS in settings:
        adapt = matched_output(settings[_OUTPUTS]["for"], own, "the network that teacher_settings describes")
        if adapt is not None:
            return _Converted(network, adapt)
    return network


def evaluated_settings(
    checkpoint: str | Path,
    bundle_root: str | Path,
    described: Mapping[str, Any],
    dataset_dir: str | Path | None = None,
) -> dict[str, Any]:
    """The settings of the weights that ``evaluate.json`` evaluates: of a run, or described as a teacher is.

    The masks or classes of a described network that the data set does not have are left out, as where it teaches, see
    `matched_output`. Masks of slices that are not told apart by class are that of the name "tumour".

    Args:
        checkpoint: the weights.
        bundle_root: bundle of the config, see `trained_settings`.
        described: ``teacher_settings``, see `described_settings`; empty for the ``settings.json`` beside the weights.
        dataset_dir: of the data set.

    Raises:
        FileNotFoundError, ValueError: as `trained_settings` and `described_settings`; or it is not described what the
            outputs are, or none of them is a mask of the data set.
    """
    if not described:
        return trained_settings(checkpoint, bundle_root)
    settings = described_settings(checkpoint, described)
    of_masks = of_segmentation(Path(bundle_root))
    needed = ("mask_names", "activation") if of_masks else ("class_names",)
    if lacking := [name for name in needed if not settings.get(name)]:
        raise ValueError(f"teacher_settings lacks {', '.join(lacking)}: what is evaluated, {checkpoint}, is not known.")
    parser = running().parser
    if settings.get("volumes") and parser is not None and "volumes" not in parser:
        raise ValueError("teacher_settings describes a network of volumes: add volumes_evaluate.json to the configs.")
    if dataset_dir is not None:
        settings = _of_the_data(settings, of_masks, dataset_dir)
    known = {name: BEFORE[name] for name in (*MEANING, "volumes")}
    multiclass = {"multiclass": settings["activation"] == "softmax"} if of_masks else {}
    return {**known, **settings, **multiclass}


def _of_the_data(settings: dict[str, Any], of_masks: bool, dataset_dir: str | Path) -> dict[str, Any]:
    """With the masks or classes that the data set has, too."""
    key = "mask_names" if of_masks else "class_names"
    own = list(settings[key])
    if not of_masks:
        names = _classes(own, class_names(dataset_dir))
    elif settings.get("volumes"):
        regions = settings["volumes"].get("regions") or region_values(dataset_dir)
        # Where there are none, the error of the preprocessing names those of the data set.
        names = [name for name in dict.fromkeys(own) if name in regions] or own
    else:
        names = _masks_of_slices(own, settings["activation"], class_names(dataset_dir), dataset_dir)
    if names == own:
        return settings
    changed: dict[str, Any] = {key: names}
    if of_masks:
        # A single mask needs no background.
        changed["activation"] = settings["activation"] if len(names) > 1 else "sigmoid"
    before = {name: settings[name] for name in changed}
    return {**settings, **changed, _OUTPUTS: {**before, "for": changed}}


def _classes(own: list[str], listed: list[str]) -> list[str]:
    if [name for name in own if name != NO_TUMOUR] == listed or not set(listed) <= set(own):
        # Other classes are refused by the report.
        return own
    return [*listed, *([NO_TUMOUR] if NO_TUMOUR in own and NO_TUMOUR not in listed else [])]


def _masks_of_slices(own: list[str], activation: str, listed: list[str], dataset_dir: str | Path) -> list[str]:
    if len(own) == 1:
        return own
    # The masks of a slice are of one class, which masks that overlap are not compared with.
    if listed and set(listed) <= set(own) and (activation == "softmax" or len(listed) == 1):
        return listed
    if _ANY_TUMOUR in own:
        return [_ANY_TUMOUR]
    raise ValueError(
        f"teacher_settings#mask_names: of {', '.join(own)} ({activation}), none is '{_ANY_TUMOUR}', and they are not "
        f"the classes of {dataset_dir}, {', '.join(listed)}: name what is to be evaluated as the data set does."
    )
