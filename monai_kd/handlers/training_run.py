"""All that a training run keeps: seeds, schedule, log, checkpoints and settings, attached in the right order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import LrScheduleHandler
from torch import nn
from torch.utils.data import DataLoader

from .checkpoint import TrainingCheckpoint
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .load_weights import LoadWeights
from .run_settings import RunSettings

__all__ = ["TrainingRun"]


class TrainingRun:
    """`EpochSeed`, MONAI's ``LrScheduleHandler``, `EpochLog`, `TrainingCheckpoint` and `RunSettings` in one.

    Attach it after the ``ValidationHandler``, whose metrics the log and the checkpoints need.

    Args:
        output_dir: folder of the run.
        settings: of the run, see `RunSettings`.
        network: the bare student (not its DDP wrapper).
        loss: its projections are saved for resuming.
        optimizer, lr_scheduler: as trained with.
        loader: the training loader.
        evaluator: the validation engine.
        seed: of the run, see `EpochSeed`.
        resume: go on with the run in the folder.
        init_checkpoint: weights to start from, loaded strictly; held against the epochs of the run.
        serving: whether somebody may be using the ``model.pt`` of the folder, see `RunSettings`.
        rank: number of this process among those of torchrun; the first one writes.
        title: of the curves.
        best_epoch_by: what decides which epoch ``model.pt`` is of, for the settings; see `monai_kd.data.best_epoch_by`.

    Raises:
        ValueError: as the handlers that it is made of.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any],
        network: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: DataLoader,
        evaluator: Engine,
        lr_scheduler: Any = None,
        seed: int = 0,
        resume: bool = False,
        init_checkpoint: str | Path | None = None,
        serving: bool = False,
        rank: int = 0,
        title: str = "",
        best_epoch_by: str | None = None,
    ) -> None:
        save = rank == 0
        if best_epoch_by is not None:
            settings = {**settings, "best_epoch_by": best_epoch_by}
        self.log = EpochLog(output_dir, evaluator, optimizer, title, save, validate_initial=init_checkpoint is not None)
        self.checkpoint = TrainingCheckpoint(
            output_dir, network, loss, optimizer, evaluator, self.log, lr_scheduler, resume, save
        )
        self.handlers: list[Any] = [EpochSeed(seed, loader, rank)]
        if lr_scheduler is not None:
            self.handlers.append(LrScheduleHandler(lr_scheduler, print_lr=False))
        self.handlers.append(self.log)
        if init_checkpoint is not None:
            self.handlers.append(LoadWeights(network, init_checkpoint))
        # The settings last: nothing on disk is touched before all else of the run is known to work.
        self.handlers += [self.checkpoint, RunSettings(output_dir, settings, resume, save, serving)]

    def attach(self, engine: Engine) -> None:
        for handler in self.handlers:
            handler.attach(engine)
