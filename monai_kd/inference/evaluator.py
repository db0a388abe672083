"""MONAI's evaluator over files, some of which can't be read."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys

from ..io.unreadable import reason_of
from .dataset import SOURCE
from .masks import MaskWriter
from .system_errors import unwritten_reason

__all__ = ["FileEvaluator"]


class FileEvaluator(SupervisedEvaluator):
    """``SupervisedEvaluator`` over batches of `collate_file`, that passes items without an image to the handlers.

    Such items come from `ReadableDataset`, and have an empty output. A file whose outputs the system does not take, or
    that does not fit into memory with the network, becomes such an item too; a full disk ends the run.

    Handlers find the `SourceImage` of an item in ``engine.state.batch[0]["source"]``. It is released, with the output,
    before the next file is read.

    Raises:
        ValueError: when run without any file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_event_handler(Events.GET_BATCH_STARTED, _release)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI overrides Ignite
        # MONAI only warns, and the command ends as if all was well.
        if self.state.epoch_length == 0:
            raise ValueError("there is no input: give --input FILE_OR_FOLDER.")
        super().run(global_epoch)

    def _iteration(self, engine: Any, batchdata: dict[str, Any]) -> Any:
        if Keys.IMAGE not in batchdata:
            engine.state.output = []
            return engine.state.output
        # Neither MONAI's decollation nor post-processing takes what is no tensor.
        source = batchdata.pop(SOURCE, None)
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


def _release(engine: Engine) -> None:
    engine.state.batch = engine.state.output = None
