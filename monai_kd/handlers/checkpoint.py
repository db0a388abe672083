"""The best and the last checkpoint of a training, and resuming from the last one."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from ..io.checkpoints import read_checkpoint, save_checkpoint
from ..io.first_process import from_first
from ..io.trained import save_trained

__all__ = ["TrainingCheckpoint"]

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Write ``model.pt`` after each new best validation, and ``last.ckpt`` after each epoch; resume from ``last.ckpt``.

    ``model.pt`` is the state dict of the student. With `RunSettings`, ``settings.json`` has its SHA-256, see
    `monai_kd.io.trained`. ``last.ckpt`` has all that the next epoch depends on: student, projections of the loss,
    optimiser, schedule, gradient scaler, epoch, best metric so far, and the log.

    Of several processes, the first one reads ``last.ckpt`` for all: the folder need not be shared between computers.

    If a run is resumed with more epochs, the learning rate continues as in a run that had that many from the start.

    Args:
        output_dir: folder of the run.
        network: the student itself, not its DDP wrapper.
        loss: the loss, whose projections are needed for resuming.
        optimizer, lr_scheduler: those of the training.
        evaluator: the validation engine, whose key metric selects the best epoch.
        log: the `EpochLog`, whose rows are saved too.
        resume: whether to resume from ``last.ckpt`` if it exists.
        save: whether this process writes; with DDP, only rank 0 does.
        lr_step: what the schedule steps after, each "epoch" or each "iteration".
        average: the network with averaged weights, see `WeightAverage`, to save in ``model.pt``; ``last.ckpt`` then has
            both.

    Raises:
        ValueError: ``last.ckpt`` is not a training checkpoint, belongs to another network or loss, or has all epochs.
    """

    def __init__(
        self,
        output_dir: str | Path,
        network: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        evaluator: Engine,
        log: Any,
        lr_scheduler: Any = None,
        resume: bool = False,
        save: bool = True,
        average: nn.Module | None = None,
        lr_step: str = "epoch",
    ) -> None:
        self.output_dir = Path(output_dir).expanduser()
        # MONAI sets attributes on Ignite's engines and states that their types do not declare.
        self.evaluator: Any = evaluator
        self.log, self.resume, self.save = log, bool(resume), bool(save)
        self.saved = network if average is None else average
        self._stateful: dict[str, Any] = {"network": network, "loss": loss, "optimizer": optimizer}
        if average is not None:
            self._stateful["average"] = average
        self._fresh_schedule, self._lr_step = None, lr_step
        if lr_scheduler is not None:
            self._stateful["lr_scheduler"] = lr_scheduler
            self._fresh_schedule = copy.deepcopy(lr_scheduler.state_dict())
            self._fresh_rates = [group["lr"] for group in optimizer.param_groups]

    @property
    def last(self) -> Path:
        return self.output_dir / "last.ckpt"

    @property
    def best(self) -> Path:
        return self.output_dir / "model.pt"

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.store)

    def store(self, engine: Any) -> None:
        if not self.save:
            return
        state = self.evaluator.state
        if state.best_metric_epoch == engine.state.epoch:
            save_trained(self.saved.state_dict(), self.best, getattr(engine.state, "run_settings", None))
        content = {name: item.state_dict() for name, item in self._stateful.items()}
        if engine.scaler is not None:
            content["scaler"] = engine.scaler.state_dict()
        content["epoch"], content["iteration"] = engine.state.epoch, engine.state.iteration
        content["max_epochs"] = engine.state.max_epochs
        content["best_metric"], content["best_metric_epoch"] = float(state.best_metric), int(state.best_metric_epoch)
        content["log"] = self.log.rows
        save_checkpoint(content, self.last)

    def restore(self, engine: Any) -> None:
        if not self.resume:
            return
        # On the CPU, because the processes of a group have other devices; the states move to their own.
        content = from_first(lambda: read_checkpoint(self.last) if self.last.is_file() else None)
        if content is None:
            logger.warning("resume: there is no %s, so training starts from the first epoch.", self.last)
            return
        if not isinstance(content, dict) or "epoch" not in content:
            raise ValueError(f"{self.last} is not a training checkpoint, so the run can't be resumed.")
        if content["epoch"] >= engine.state.max_epochs:
            raise ValueError(
                f"{self.last} has run {content['epoch']} of {engine.state.max_epochs} epochs already: increase "
                "`epochs` to train longer, or set `resume` to false to start again."
            )
        for name, item in self._stateful.items():
            try:
                item.load_state_dict(content[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{self.last} does not fit this run ({name}): it was trained with other settings. Restore them, or "
                    f"choose another output_dir. {error}"
                ) from error
        self._adjust_schedule(content, engine.state.max_epochs)
        if engine.scaler is not None and "scaler" in content:
            engine.scaler.load_state_dict(content["scaler"])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        self.evaluator.state.best_metric = content["best_metric"]
        self.evaluator.state.best_metric_epoch = content["best_metric_epoch"]
        self.log.rows[:] = content["log"]
        logger.info("resuming from %s after epoch %d.", self.last, content["epoch"])

    def _adjust_schedule(self, content: dict[str, Any], epochs: int) -> None:
        """Set the schedule to its state after the completed epochs in a run of ``epochs`` epochs.

        A restored schedule keeps its old length, after which a cosine would rise again; one that follows the loss has
        none.
        """
        planned = content.get("max_epochs", epochs)
        if planned == epochs or self._fresh_schedule is None:
            return
        schedule, optimizer = self._stateful["lr_scheduler"], self._stateful["optimizer"]
        if isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            return
        for group, rate in zip(optimizer.param_groups, self._fresh_rates, strict=True):
            group["lr"] = rate
        schedule.load_state_dict(self._fresh_schedule)
        with warnings.catch_warnings():
            # torch warns because the optimiser has not stepped before.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(content[self._lr_step]):
                schedule.step()
        line = "resume: epochs was %d and is %d: the learning rate continues as in a run of %d epochs."
        logger.warning(line, planned, epochs, epochs)
