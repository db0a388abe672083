"""Best and last checkpoints, and going on from the last one."""

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
from ..io.trained import save_trained

__all__ = ["TrainingCheckpoint"]

logger = logging.getLogger(__name__)


class TrainingCheckpoint:
    """Write ``model.pt`` when validation found a new best, ``last.ckpt`` after every epoch; resume from ``last.ckpt``.

    ``model.pt`` is the bare state dict of the student. Where there are `RunSettings` too, ``settings.json`` names it by
    its SHA-256, see `monai_kd.io.trained`. ``last.ckpt`` holds all that the next epoch depends on: student, projections
    of the loss, optimiser, schedule, gradient scaler, epoch, best metric so far, and the log.

    Resumed with more epochs, the learning rate goes on as in a run that was to have as many from the beginning.

    Args:
        output_dir: folder of the run.
        network: the bare student (not its DDP wrapper).
        loss: its projections are saved for resuming only.
        optimizer, lr_scheduler: as trained with.
        evaluator: the validation engine, whose key metric decides what is best.
        log: an `EpochLog`, whose rows are saved along.
        resume: go on from ``last.ckpt`` when there is one.
        save: whether this process writes; under DDP only the first one does.

    Raises:
        ValueError: ``last.ckpt`` is something else, belongs to other networks or another loss, or has already run for
            all epochs.
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
    ) -> None:
        self.output_dir = Path(output_dir)
        # MONAI sets attributes on Ignite's engines and states that their types do not declare.
        self.evaluator: Any = evaluator
        self.log, self.resume, self.save = log, bool(resume), bool(save)
        self.network = network
        self._stateful: dict[str, Any] = {"network": network, "loss": loss, "optimizer": optimizer}
        self._fresh_schedule = None
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
            save_trained(self.network.state_dict(), self.best, getattr(engine.state, "run_settings", None))
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
        if not self.last.is_file():
            logger.info("resume: there is no %s, so training starts from the first epoch.", self.last)
            return
        content = read_checkpoint(self.last, engine.state.device)
        if not isinstance(content, dict) or "epoch" not in content:
            raise ValueError(f"{self.last} is no training checkpoint: it can't be resumed from.")
        if content["epoch"] >= engine.state.max_epochs:
            raise ValueError(
                f"{self.last} has run {content['epoch']} of {engine.state.max_epochs} epochs already: raise `epochs` "
                "to train longer, or set `resume` to false to start anew."
            )
        for name, item in self._stateful.items():
            try:
                item.load_state_dict(content[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"{self.last} does not fit this run ({name}): it was trained with other settings. Set them as they "
                    f"were, or choose another output_dir. {error}"
                ) from error
        self._stretch(content, engine.state.max_epochs)
        if engine.scaler is not None and "scaler" in content:
            engine.scaler.load_state_dict(content["scaler"])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        self.evaluator.state.best_metric = content["best_metric"]
        self.evaluator.state.best_metric_epoch = content["best_metric_epoch"]
        self.log.rows[:] = content["log"]
        logger.info("resuming from %s after epoch %d.", self.last, content["epoch"])

    def _stretch(self, content: dict[str, Any], epochs: int) -> None:
        """Put the schedule where it would be after the epochs that were run, had ``epochs`` been the number all along.

        A restored schedule keeps its old length: a cosine rises again behind its end.
        """
        planned = content.get("max_epochs", epochs)
        if planned == epochs or self._fresh_schedule is None:
            return
        schedule, optimizer = self._stateful["lr_scheduler"], self._stateful["optimizer"]
        for group, rate in zip(optimizer.param_groups, self._fresh_rates, strict=True):
            group["lr"] = rate
        schedule.load_state_dict(self._fresh_schedule)
        with warnings.catch_warnings():
            # torch would have the optimiser step first.
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(content["epoch"]):
                schedule.step()
        line = "resume: epochs was %d and is %d: the learning rate goes on as in a run of %d epochs."
        logger.warning(line, planned, epochs, epochs)
