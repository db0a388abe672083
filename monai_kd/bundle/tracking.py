"""Parameters of a run for experiment tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

__all__ = ["loss_of", "track_settings", "tracked"]

HANDLERS, TRACKER = "train::handlers", "MLFlowHandler"
_SETTINGS = (
    *("recipe", "fold", "leave_out", "seed", "preset", "image_size", "multiclass", "batch_size", "learning_rate"),
    *("weight_decay", "datalist_sha256", "labelled_share"),
)
_LONGEST = 250  # characters of a value; MLflow refuses some hundred more


def track_settings(parser: ConfigParser) -> frozenset[str]:
    """Give `tracked` settings as parameters to MONAI's handler for MLflow, if it is among those of the training.

    ``--tracking mlflow`` adds that handler to the config, without parameters.

    Returns:
        Ids that MONAI adds to the config with the handler, such as ``tracking_uri``, and that may be overridden; none
        where it is not there.
    """
    configs: Any = DEFAULT_MLFLOW_SETTINGS["configs"]
    handlers = parser.get(HANDLERS)
    trackers = [
        handler
        for handler in (handlers if isinstance(handlers, list) else [])
        if isinstance(handler, dict) and str(handler.get("_target_", "")).endswith(TRACKER)
    ]
    for handler in trackers:
        handler.setdefault("experiment_param", "$kd.tracked(@settings)")
        if handler.get("output_transform") == configs["trainer"]["output_transform"]:
            # MONAI's takes a decollated output for granted, and gives a tuple of any other.
            handler["output_transform"] = "$kd.loss_of"
    if not trackers:
        return frozenset()
    parser.parse(reset=True)
    return frozenset(configs)


def loss_of(output: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """The loss of a step, as the ``output_transform`` of a handler of a trainer, such as MONAI's ``StatsHandler``.

    Args:
        output: of a trainer: a dictionary of the batch, or, decollated, a list with one for each slice.

    Example:
        >>> loss_of({"loss": 0.5, "pred": None}), loss_of([{"loss": 0.5}, {"loss": 0.5}])
        (0.5, 0.5)
    """
    return (output if isinstance(output, Mapping) else output[0])["loss"]


def tracked(settings: Mapping[str, Any]) -> dict[str, str]:
    """What tells one run from another, as a flat dictionary of texts.

    The recipe with its weights, the network with its arguments (widths among them), the folds, the
    teacher with its arguments, and how it is trained.

    Args:
        settings: of a run.

    Example:
        >>> tracked({"fold": 1, "network_def": {"_target_": "BasicUNet", "features": [4, 8]}, "teacher": None})
        {'fold': '1', 'network': 'BasicUNet', 'network.features': '[4, 8]', 'teacher': 'none'}
    """
    found = {name: settings[name] for name in _SETTINGS if name in settings}
    found |= {f"weight.{name}": weight for name, weight in (settings.get("weights") or {}).items()}
    found |= {name: value for name, value in (settings.get("definitions") or {}).items() if name != "terms"}
    found |= _network("network", settings.get("network_def") or {})
    if "teacher" in settings:
        teacher = settings["teacher"] or {}
        found |= _network("teacher", teacher.get("network_def") or {"_target_": "none"})
        found |= {f"teacher.{name}": teacher[name] for name in ("epochs", "learning_rate", "fold") if name in teacher}
    return {name: str(value)[:_LONGEST] for name, value in found.items()}


def _network(name: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {f"{name}.{key}": value for key, value in definition.items() if key != "_target_"}
    return {name: str(definition.get("_target_", "")).rpartition(".")[2], **arguments}
