"""The log of a training, with one line for each epoch: console, CSV, TensorBoard, curves."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from ..io.first_process import is_distributed
from ..io.table import write_table
from ..plots import plot_curves

__all__ = ["EpochLog"]

logger = logging.getLogger(__name__)


class EpochLog:
    """Log the mean of every loss term over each epoch, the validation metrics, and the remaining time.

    Writes ``log.csv`` (all epochs, rewritten each time), ``curves.png`` and TensorBoard events into the folder of the
    run. Attach it after the validation handler. Columns: ``epoch``, ``seconds``, ``learning_rate``, ``loss``,
    ``loss/<term>`` before weighting, ``weighted/<term>``, ``val/<metric>``.

    Losses are summed on their device and read once an epoch. A metric that is NaN is logged as undefined and left out
    of the files and curves.

    With ``validate_initial``, the initial weights are validated before the first epoch, as epoch 0 of the log, for a
    training that starts from trained weights. They are never the best epoch. If no epoch is better, a warning is logged
    at the end, as it is if the Dice of the best epoch is 0.

    Args:
        output_dir: folder of the run.
        evaluator: the validation engine, whose metrics are logged.
        optimizer: the optimiser, whose learning rate is logged.
        title: title of the curves.
        save: whether this process writes; with DDP, all processes take part in the means, and one writes.
        validate_initial: whether to validate before the first epoch.

    Raises:
        ValueError: at the end of an epoch: the loss was not finite; no checkpoint of this epoch is written.
    """

    def __init__(
        self,
        output_dir: str | Path,
        evaluator: Engine,
        optimizer: torch.optim.Optimizer,
        title: str = "",
        save: bool = True,
        validate_initial: bool = False,
    ) -> None:
        self.validate_initial = bool(validate_initial)
        # MONAI sets attributes on Ignite's engines and states that their types do not declare.
        self.evaluator: Any = evaluator
        self.output_dir, self.optimizer = Path(output_dir).expanduser(), optimizer
        self.title, self.save = title, bool(save)
        self.rows: list[dict[str, float]] = []
        self._writer: SummaryWriter | None = None
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: Counter[str] = Counter()
        self._learning_rate = 0.0
        self._epoch_began = 0.0
        self._durations: list[float] = []

    def attach(self, engine: Engine) -> None:
        if self.validate_initial:
            engine.add_event_handler(Events.EPOCH_STARTED(once=1), self._validate_initial)
            engine.add_event_handler(Events.COMPLETED, self._compare_with_initial)
        engine.add_event_handler(Events.COMPLETED, self._warn_of_nothing_found)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _validate_initial(self, _engine: Engine) -> None:
        # exec_at_start of MONAI's ValidationHandler would validate twice, and count the result as that of an epoch.
        state = self.evaluator.state
        best = state.best_metric, state.best_metric_epoch
        self.evaluator.run(1)
        state.best_metric, state.best_metric_epoch = best
        state.epoch = 0
        metrics = self._metrics()
        self.rows.append({"epoch": 0, **metrics})
        if self.save:
            logger.info("before the first epoch: %s", self._metrics_text(metrics))

    def _compare_with_initial(self, _engine: Engine) -> None:
        state = self.evaluator.state
        name = state.key_metric_name
        before = self.rows[0].get(f"val/{name}") if self.rows[0]["epoch"] == 0 else None
        if self.save and before is not None and not self.evaluator.metric_cmp_fn(state.best_metric, before):
            logger.warning(
                "no epoch was better than the initial weights: val %s was %.4f, and is %.4f in the best epoch.",
                *(name, before, state.best_metric),
            )

    def _warn_of_nothing_found(self, _engine: Engine) -> None:
        best = self.evaluator.state.best_metric_epoch
        if self.save and any(row["epoch"] == best and row.get("val/dice") == 0 for row in self.rows):
            logger.warning(
                "val dice is 0 in epoch %d, the best: its network marks nothing that is labelled. Train longer, or "
                "with another learning rate, and look at overlays.png.",
                best,
            )

    def _metrics(self) -> dict[str, float]:
        values = {f"val/{name}": float(value) for name, value in self.evaluator.state.metrics.items()}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def _metrics_text(self, metrics: dict[str, float]) -> str:
        names = [f"val/{name}" for name in self.evaluator.state.metrics]
        return "  ".join(
            f"val {name.removeprefix('val/')} {f'{metrics[name]:.4f}' if name in metrics else 'undefined'}"
            for name in names
        )

    def _begin(self, _engine: Engine) -> None:
        # The schedule steps at the end of the epoch, before the report.
        self._learning_rate = self.optimizer.param_groups[0]["lr"]
        self._sums, self._counts, self._epoch_began = defaultdict(lambda: torch.zeros(())), Counter(), time.monotonic()

    def _add(self, engine: Engine) -> None:
        report = cast(Any, engine.state).loss_report
        values = {"loss": report.total}
        values |= {f"loss/{name}": value for name, value in report.terms.items()}
        values |= {f"weighted/{name}": value for name, value in report.weighted.items()}
        for name, value in values.items():
            self._sums[name] = self._sums[name].to(value) + value.detach()
            # The weighted terms of all batches add up to the loss.
            self._counts[name] += name.removeprefix("loss/") not in report.undefined

    def _averages(self) -> dict[str, float]:
        sums = torch.stack([total.float() for total in self._sums.values()])
        both = torch.stack([sums, sums.new_tensor([self._counts[name] for name in self._sums])])
        if is_distributed():
            dist.all_reduce(both)
        # A term that no batch had is 0.
        means = both[0] / both[1].clamp(min=1)
        averages = dict(zip(self._sums, means.tolist(), strict=True))
        if not math.isfinite(averages["loss"]):
            found = ", ".join(
                f"{k.removeprefix('loss/')} = {v:g}" for k, v in averages.items() if k.startswith("loss/")
            )
            raise ValueError(
                f"the loss was not finite in this epoch: {found}. A lower learning rate or smaller weights may help."
            )
        return averages

    def _report(self, engine: Engine) -> None:
        averages = self._averages()
        seconds = time.monotonic() - self._epoch_began
        self._durations.append(seconds)
        epoch, epochs = engine.state.epoch, cast(int, engine.state.max_epochs)
        validated = self.evaluator.state.epoch == epoch
        metrics = self._metrics() if validated else {}
        row = {
            "epoch": epoch,
            "seconds": round(seconds, 3),
            "learning_rate": self._learning_rate,
            **averages,
            **metrics,
        }
        self.rows.append(row)
        if not self.save:
            return
        left = sum(self._durations) / len(self._durations) * (epochs - epoch)
        terms = ", ".join(f"{k.removeprefix('weighted/')} {v:.4f}" for k, v in row.items() if k.startswith("weighted/"))
        found = self._metrics_text(metrics) if validated else ""
        best = self.evaluator.state
        if best.best_metric_epoch > 0 and not math.isnan(best.best_metric):
            found += f"  (best {float(best.best_metric):.4f} in epoch {best.best_metric_epoch})"
        line = "epoch %d/%d  loss %.4f (%s)  %s  %.0f s, %s left"
        # First the pictures, which take longer: what is said to be finished is soon in the checkpoint.
        self._write(row)
        logger.info(line, epoch, epochs, row["loss"], terms, found, seconds, _clock(left))

    def _write(self, row: dict[str, float]) -> None:
        # Rows of epoch 0, and of epochs without validation, lack columns; the longest row gives the order.
        columns = list(dict.fromkeys(name for each in sorted(self.rows, key=len, reverse=True) for name in each))
        write_table(self.rows, columns, self.output_dir / "log.csv")
        plot_curves(self.rows, self.output_dir / "curves.png", self.title)
        if self._writer is None:
            # purge_step hides the events that an interrupted run wrote for epochs that are run again.
            self._writer = SummaryWriter(str(self.output_dir / "tensorboard"), purge_step=int(row["epoch"]))
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()

    def _close(self, _engine: Engine) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
