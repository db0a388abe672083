"""MONAI's supervised trainer for a student and its teachers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from ..distillation import Distiller
from ..io.plain import plain_tensor
from ..networks.mode import set_mode
from ..networks.outputs import student_outputs
from .float32_gradients import Float32Gradients
from .precision import autocast, autocast_dtype

__all__ = ["LABELLED", "DistillationTrainer"]

LABELLED = "labelled"


def _float(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs with logits in float32, because losses are too sensitive for half precision.

    Features are far larger; the terms that compare them convert what they need, see `DistillationLoss`.
    """
    converted = {}
    for name, value in outputs.items():
        if isinstance(value, torch.Tensor):
            value = value.float()
        elif isinstance(value, list):
            value = [each.float() for each in value]
        converted[name] = value
    return converted


class DistillationTrainer(SupervisedTrainer):
    """Train a student under a `DistillationLoss`.

    Takes the arguments of ``monai.engines.SupervisedTrainer``, with the same events, handlers and metrics, and these
    differences:

    - ``network`` is a `Distiller`, or any network, which then is a student without a teacher.
    - ``loss_function`` is a `DistillationLoss`; its projections are trained when the optimiser has their parameters.
    - ``amp`` autocasts on the device of the trainer: bfloat16 on a CPU and on GPUs that support it, else float16 with
      gradient scaling. Losses are computed from logits in float32 and from features as the networks return them.
    - Nothing is read from the device during a step. Of a decollated output, ``loss`` is a tensor of one number.
    - ``engine.state.loss_report`` is the detached `LossReport` of the last batch, with every term by name. It is not in
      ``state.output``, whose items MONAI splits into one per slice.
    - Of a batch with ``labelled``, (B,) bool on the CPU, items where it is false have no label: for them, the loss has
      only the terms that compare with a teacher. The output has ``labelled`` too, see `from_labelled` of the handlers.

    Raises:
        ValueError: a batch is missing, or ``compile`` is set: compile the student instead, by
            ``distiller.wrap_student(torch.compile)``.
    """

    loss_function: nn.Module

    def __init__(self, device: str | torch.device, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        if kwargs.get("compile"):
            raise ValueError("compile the student by distiller.wrap_student(torch.compile), not the trainer.")
        device = torch.device(device)
        # MONAI ties gradient scaling to `amp`; bfloat16 has the range of float32 and needs none.
        kwargs["amp"] = amp and autocast_dtype(device) is torch.float16
        super().__init__(device, *args, **kwargs)
        # The compiler writes its own kernels.
        self.compiled = any(hasattr(each, "_orig_mod") for each in self.network.modules())
        bare = getattr(self.loss_function, "module", self.loss_function)
        self._needs_classes = bool(getattr(bare, "needs_classes", False))
        self.autocast, self.decollates = bool(amp), bool(kwargs.get("decollate", True))
        if isinstance(self.network, Distiller) and self.network.store is not None:
            self.add_event_handler(Events.EPOCH_COMPLETED, self.network.store.flush)

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, torch.Tensor]) -> dict:
        assert isinstance(engine, DistillationTrainer), "MONAI passes the trainer itself"
        if batchdata is None:
            raise ValueError("the trainer got no batch.")
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        inputs, targets = batch[0], batch[1]
        args, kwargs = (batch[2], batch[3]) if len(batch) == 4 else ((), {})
        output: dict[str, Any] = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        # On the CPU, whatever the device: asked there, it would wait in each step.
        labelled = batchdata.get(LABELLED) if isinstance(batchdata, Mapping) else None
        if labelled is not None:
            output[LABELLED] = labelled
        engine.state.output = output

        first, last, share = self._accumulation(engine)
        set_mode(engine.network, True)
        set_mode(engine.loss_function, True)
        if first:
            engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)

        with autocast(engine.state.device, engine.autocast), engine.gradients():
            outputs = engine.inferer(plain_tensor(inputs), engine.network, *args, **kwargs)
        # Networks of one's own may return a mapping too, as torchvision's segmentations do.
        if not isinstance(outputs, dict) or "student" not in outputs:
            outputs = student_outputs(outputs, engine.network, inputs.ndim)
        outputs = _float(outputs)
        output[Keys.PRED] = outputs["student"]
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)

        # Other losses than a DistillationLoss, which take two arguments, serve where all have labels. No tensor, which
        # DistributedDataParallel would move to the device, where it must be waited for.
        known = {} if labelled is None or bool(labelled.all()) else {LABELLED: labelled.tolist()}
        if self._needs_classes:
            known["classes"] = torch.as_tensor(batchdata["class"]).tolist()
        report = engine.loss_function(outputs, plain_tensor(targets), **known)
        output[Keys.LOSS] = report.total
        engine.state.loss_report = replace(report, total=report.total.detach())
        engine.fire_event(IterationEvents.LOSS_COMPLETED)

        loss = report.total * share
        if engine.scaler is None:
            loss.backward()
        else:
            engine.scaler.scale(loss).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if last:
            if engine.scaler is None:
                engine.optimizer.step()
            else:
                engine.scaler.step(engine.optimizer)
                engine.scaler.update()
        # Detached, because the graph in the state would keep the activations until the next iteration.
        output[Keys.LOSS], output[Keys.PRED] = report.total.detach(), outputs["student"].detach()
        if engine.decollates:
            # MONAI reads a scalar from the device to give it to each item.
            output[Keys.LOSS] = output[Keys.LOSS].expand(len(inputs), 1)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def gradients(self) -> AbstractContextManager:
        """What the forward pass runs in, so that the backward pass is quick on this device."""
        quick = self.autocast and torch.device(self.state.device).type == "cpu" and not self.compiled
        return Float32Gradients() if quick else nullcontext()

    @staticmethod
    def _accumulation(engine: SupervisedTrainer) -> tuple[bool, bool, float]:
        """Whether this batch is the first and the last of its accumulated step, and its share of the gradient."""
        steps, length = engine.accumulation_steps, engine.state.epoch_length
        index = (engine.state.iteration - 1) % length if length else engine.state.iteration - 1
        begin = index - index % steps
        count = min(steps, length - begin) if length else steps
        return index == begin, index + 1 == begin + count, 1 / count
