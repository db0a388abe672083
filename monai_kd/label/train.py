"""Training on request of MONAI Label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.generic import device_map

from ..config import literal
from .request import OPTIONS, check_training_part, literal_overrides, training_request

__all__ = ["LiteralTrainTask"]


class LiteralTrainTask(BundleTrainTask):
    """MONAI Label's training of a bundle, in which no value of a request and no path is parsed as a config.

    The stock task passes both to ``monai.bundle.run`` as overrides, which runs text that begins with ``$`` as Python.
    It also takes the run's id, the file of the weights and addresses for tracking from the request.

    Args:
        path, conf, const, enable_tracking, model_dict_key, load_strict: as for the stock task.
    """

    def config(self) -> dict[str, Any]:
        """The options of MONAI Label's form that `training_request` takes, with their defaults."""
        return {name: value for name, value in super().config().items() if name == "device" or name in OPTIONS}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        try:
            taken = training_request(request, device_map())
        except ValueError as error:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
        return super().__call__(taken, datastore)

    def _partition_datalist(
        self, datalist: list[dict[str, Any]], request: Mapping[str, Any], shuffle: bool = False
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        training, validating = super()._partition_datalist(datalist, request, shuffle)
        try:
            check_training_part(training, datalist, request.get("val_split", 0.2))
        except ValueError as error:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, str(error)) from error
        return training, validating

    def _load_bundle_config(self, path: str, config: str) -> ConfigParser:
        parser = super()._load_bundle_config(path, config)
        parser[self.const.key_bundle_root()] = literal(path)
        return parser

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[dict[str, Any]]) -> None:
        count = len(train_handlers)
        super()._load_checkpoint(model_pytorch, pretrained, train_handlers)
        if len(train_handlers) > count:
            # A train.json without a loader of its own got one.
            train_handlers[0]["load_path"] = literal(model_pytorch)

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        # The stock task goes on with the dictionary that it gave.
        overrides.update(literal_overrides(overrides))
        return overrides
