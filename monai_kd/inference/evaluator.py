"""MONAI's evaluator over files, some of which can't be read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys

from ..io.unreadable import reason_of
from .batches import PREDICTED, FilesTogether, KnownOutput
from .dataset import SOURCE
from .masks import MaskWriter
from .system_errors import unwritten_reason

__all__ = ["FileEvaluator"]

logger = logging.getLogger(__name__)


class FileEvaluator(SupervisedEvaluator):
    """``SupervisedEvaluator`` over batches of `collate_file`, that passes items without an image to the handlers.

    Such items come from `ReadableDataset`, and have an empty output. A file whose outputs the system does not take, or
    that does not fit into memory with the network, becomes such an item too; a full disk ends the run.

    Slices of several files go through the network together, and the next ones are read meanwhile. An iteration is one
    file all the same, in the order of the loader. Handlers find its `SourceImage` in
    ``engine.state.batch[0]["source"]``. A volume is released, with its output, before the next file is read; of slices,
    twice ``slices_per_batch`` are in memory.

    Args:
        slices_per_batch: number of files with one slice that go through the network together.
        args, kwargs: of ``SupervisedEvaluator``.

    Raises:
        ValueError: when run without any file.
    """

    def __init__(self, *args: Any, slices_per_batch: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._predict, self._known = self.inferer, KnownOutput(self.inferer)
        self.inferer = self._known
        # `run` calls network.eval(): once for each file, it would take milliseconds.
        self.mode = _without_gradients
        self.data_loader = FilesTogether(self.data_loader, self._predicted, int(slices_per_batch))
        self.add_event_handler(Events.GET_BATCH_STARTED, _release)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI overrides Ignite
        # MONAI only warns, and the command ends as if all was well.
        if self.state.epoch_length == 0:
            raise ValueError("there is no input: give --input FILE_OR_FOLDER.")
        # Frozen weights are converted once for mixed precision, see `monai_kd.networks.half_weights`.
        self.network.eval().requires_grad_(False)
        super().run(global_epoch)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
        if Keys.IMAGE not in batchdata:
            engine.state.output = []
            return engine.state.output
        # Neither MONAI's decollation nor post-processing takes what is no tensor.
        source = batchdata.pop(SOURCE, None)
        self._known.output = batchdata.pop(PREDICTED, None)
        # Of a mask that was written elsewhere in this process.
        MaskWriter.refused = None
        try:
            output = super()._iteration(engine, batchdata)
            for item in engine.state.batch:
                item[SOURCE] = source
            return output
        except Exception as error:
            refused, MaskWriter.refused = MaskWriter.refused, None
            reason = unwritten_reason(refused or error) or reason_of(error)
            if reason is None and refused is not None:
                raise refused from None
            if reason is None:
                raise
            files = batchdata["file"]
            engine.state.batch = {"file": files, "reason": [reason] * len(files)}
            engine.state.output = []
            return engine.state.output

    def _predicted(self, images: torch.Tensor) -> torch.Tensor | None:
        """The output for several files; ``None`` where they fail together, since one of them may be the cause."""
        try:
            with torch.no_grad():
                return self._predict(images.to(self.state.device, **self.to_kwargs), self.network)
        except Exception as error:
            logger.warning("%d slices together failed (%s): now one by one.", len(images), error)
            return None


@contextmanager
def _without_gradients(*_networks: torch.nn.Module) -> Iterator[None]:
    with torch.no_grad():
        yield


def _release(engine: Engine) -> None:
    engine.state.batch = engine.state.output = None
