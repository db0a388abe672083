"""The handlers of a training run: seeds, schedule, log, checkpoints and settings, attached in the right order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler
from torch import nn
from torch.utils.data import DataLoader

from .checkpoint import TrainingCheckpoint
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .load_weights import LoadWeights
from .run_settings import RunSettings
from .teacher_outputs import FillTeacherStore
from .weight_average import WeightAverage

__all__ = ["TrainingRun"]

logger = logging.getLogger(__name__)


class TrainingRun:
    """All handlers of a training in one.

    `EpochSeed`, MONAI's ``LrScheduleHandler``, `EpochLog`, `TrainingCheckpoint`, `RunSettings` and `FillTeacherStore`.

    Attach it after the ``ValidationHandler``, whose metrics the log and the checkpoints need.

    Args:
        output_dir: folder of the run.
        settings: settings of the run, see `RunSettings`. A ``batch_size`` among them becomes that of ``loader``.
        network: the student itself, not its DDP wrapper.
        loss: the loss, whose projections are needed for resuming.
        optimizer, lr_scheduler: those of the training.
        loader: the training loader.
        evaluator: the validation engine.
        seed: seed of the run, see `EpochSeed`.
        resume: whether to resume the run in the folder.
        init_checkpoint: weights to start from, loaded strictly, and validated before the first epoch.
        serving: whether ``model.pt`` of the folder may be in use, see `RunSettings`.
        rank: rank of this process; rank 0 writes.
        title: title of the curves.
        best_epoch_by: how the epoch of ``model.pt`` is chosen, for the settings; see `monai_kd.data.best_epoch_by`.
        ema: decay of a `WeightAverage`. The averaged weights are validated, in place of the network of ``evaluator``,
            and saved in ``model.pt``; the settings record the decay. ``None``: the weights themselves.
        lr_step: what ``lr_scheduler`` steps after: each "epoch", or each "iteration", which is a batch.

    Raises:
        ValueError: ``lr_step`` is another one, or the rate follows the loss, which there is after an epoch; or as the
            handlers listed above.
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
        ema: float | None = None,
        lr_step: str = "epoch",
    ) -> None:
        if lr_step not in ("epoch", "iteration"):
            raise ValueError(f"lr_step must be 'epoch' or 'iteration', got {lr_step!r}.")
        self.lr_step = lr_step
        save, self.lr_scheduler = rank == 0, lr_scheduler
        if save:
            _warn_of_untrained(loss, optimizer)
        # The config may give the loader another one than its value of this name.
        if "batch_size" in settings and loader.batch_size is not None:
            settings = {**settings, "batch_size": loader.batch_size}
        if best_epoch_by is not None:
            settings = {**settings, "best_epoch_by": best_epoch_by}
        average = None if ema is None else WeightAverage(network, ema)
        if average is not None:
            settings = {**settings, "ema": ema}
            # MONAI sets the network as an attribute that the types of Ignite's engines do not declare.
            cast(Any, evaluator).network = average.module
        if lr_step != "epoch":
            settings = {**settings, "lr_step": lr_step}
        self.log = EpochLog(output_dir, evaluator, optimizer, title, save, validate_initial=init_checkpoint is not None)
        self.checkpoint = TrainingCheckpoint(
            *(output_dir, network, loss, optimizer, evaluator, self.log, lr_scheduler, resume, save),
            average=None if average is None else average.module,
            lr_step=lr_step,
        )
        self.handlers: list[Any] = [EpochSeed(seed, loader, rank)]
        follows = isinstance(lr_scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        if follows and lr_step != "epoch":
            raise ValueError("lr_step: ReduceLROnPlateau follows the mean loss of an epoch: leave it at 'epoch'.")
        if lr_scheduler is not None and not follows:
            self.handlers.append(LrScheduleHandler(lr_scheduler, print_lr=False, epoch_level=lr_step == "epoch"))
        self.handlers.append(self.log)
        if follows:
            # Of the log, whose loss is the mean over all processes, so that their rates stay the same.
            handler = LrScheduleHandler(
                lr_scheduler, print_lr=False, step_transform=lambda _: self.log.rows[-1]["loss"]
            )
            self.handlers.append(handler)
        if init_checkpoint is not None:
            self.handlers.append(LoadWeights(network, init_checkpoint))
        # RunSettings after them: nothing on disk changes before they have started. Only then is the teacher asked.
        self.handlers.append(self.checkpoint)
        if average is not None:
            self.handlers.append(average)
        self.handlers.append(RunSettings(output_dir, settings, resume, save, serving))
        self.handlers.append(FillTeacherStore(loader, seed))

    def attach(self, engine: Engine) -> None:
        for handler in self.handlers:
            handler.attach(engine)
        engine.add_event_handler(Events.STARTED, self._check_schedule)
        engine.add_event_handler(Events.COMPLETED, self._say)

    def _say(self, _engine: Engine) -> None:
        """Say where the result is, and of which epoch."""
        state, metric = self.checkpoint.evaluator.state, self.checkpoint.evaluator.state.key_metric_name
        if self.checkpoint.save and self.checkpoint.best.is_file():
            logger.info(
                "trained: %s has the weights of epoch %d, by the validation (%s %.4f).",
                *(self.checkpoint.best, state.best_metric_epoch, metric, state.best_metric),
            )

    def _check_schedule(self, engine: Engine) -> None:
        """Warn of a schedule that is made for another number of steps than the run has.

        After the end of a cosine the rate rises again; one with a number of steps ends before or after the run.
        """
        unit, each = ("epochs", 1) if self.lr_step == "epoch" else ("iterations", engine.state.epoch_length)
        if engine.state.max_epochs is None or each is None:
            return
        needed = engine.state.max_epochs * each
        length = getattr(self.lr_scheduler, "T_max", None)
        if length is not None and needed > length:
            logger.warning(
                "the learning rate falls over %d %s, and this run has %d: afterwards it rises again. Set "
                "lr_scheduler#T_max to the %s of all rounds or runs together.",
                *(length, unit, needed, unit),
            )
        for name in ("total_steps", "t_total"):
            steps = getattr(self.lr_scheduler, name, None)
            if steps is not None and steps != needed:
                logger.warning(
                    "lr_scheduler: its %s is %d, and this run has %d %s. It steps once in each, so that the run does "
                    "not end where the schedule does: set lr_scheduler#%s to the %s of all rounds or runs together.",
                    *(name, steps, needed, unit, name, unit),
                )


def _warn_of_untrained(loss: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Warn of projections that stay random, so that features are compared with noise."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    names = [name for name, each in loss.named_parameters() if each.requires_grad and id(each) not in trained]
    if names:
        logger.warning(
            "optimizer: it does not train %s of the loss, which stay RANDOM, so that what they compare means little. "
            "Add list(@loss.parameters()) to its params.",
            ", ".join(names[:4]) + (" …" if len(names) > 4 else ""),
        )
