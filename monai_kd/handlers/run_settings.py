"""What a run is made with, kept beside its checkpoints."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ignite.engine import Engine, Events

from ..io.atomic import clear_partial
from ..io.trained import begin_settings, read_settings, read_trained

__all__ = ["RunSettings"]

# What training writes beside settings.json, see docs/training.md.
_OF_A_RUN = (
    "model.pt",
    "last.ckpt",
    "log.csv",
    "curves.png",
    "overlays.png",
    "confusion.png",
    "tensorboard",
)
# What may differ between the parts of a run that was interrupted; all else would make another run of it.
_FREE = frozenset({"bundle_root", "epochs", "resume", "teacher_store", "val_interval", "workers"})

logger = logging.getLogger(__name__)


class RunSettings:
    """Write ``settings.json`` when training begins; put an earlier run aside, or check that it is the one to resume.

    Attach it behind `TrainingCheckpoint`: then nothing on disk is touched before all of the run has been built and,
    when resuming, restored. A misspelt value does not cost an earlier run its place.

    Args:
        output_dir: folder of the run.
        settings: name to value; what is no JSON is written as text.
        resume: go on with the run in the folder, which must have been made with the same settings, those apart that
            leave the losses alone, and ``epochs``.
        save: whether this process writes; under DDP only the first one does.
        serving: whether somebody may be using the ``model.pt`` of the folder: then a copy of it is put aside, and it
            stays until the first validated epoch takes its place.

    Raises:
        ValueError: when training begins: the run to go on with was made with other settings; or the ``model.pt`` that
            stays in the folder, of that run or served, does not belong to the ``settings.json`` beside it.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any],
        resume: bool = False,
        save: bool = True,
        serving: bool = False,
    ) -> None:
        self.output_dir, self.resume, self.save = Path(output_dir), bool(resume), bool(save)
        self.serving = bool(serving)
        # As they will be read again: tuples are lists, devices are text.
        self.settings = json.loads(json.dumps(dict(settings), default=str))

    @property
    def path(self) -> Path:
        return self.output_dir / "settings.json"

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)

    def begin(self, engine: Engine) -> None:
        model = self.output_dir / "model.pt"
        if self.resume:
            self._check_same()
        elif self.save:
            if self.serving and model.is_file():
                # What does not belong together is refused before anything is moved.
                read_trained(model)
            self._put_aside()
        if self.save:
            clear_partial(self.output_dir)
            begin_settings(self.settings, model)
        # For `TrainingCheckpoint`, which saves weights together with the settings that they come from.
        cast(Any, engine.state).run_settings = self.settings

    def _check_same(self) -> None:
        if not self.path.is_file():
            return
        earlier = read_settings(self.path)
        other = [
            f"{name} was {earlier[name]!r} and is {value!r}"
            for name, value in self.settings.items()
            if name in earlier and name not in _FREE and earlier[name] != value
        ]
        if other:
            raise ValueError(
                f"resume: the run in {self.output_dir} was made otherwise: {'; '.join(other)}. Set these as they were, "
                "or choose another output_dir for a new run."
            )

    def _put_aside(self) -> None:
        # An earlier run has taken hours; whoever starts another in its folder may not have meant to lose it.
        found = [self.output_dir / name for name in _OF_A_RUN if (self.output_dir / name).exists()]
        if not any(path.name in ("model.pt", "last.ckpt") for path in found):
            return
        number = 1
        while (self.output_dir / f"earlier-{number}").exists():
            number += 1
        aside = self.output_dir / f"earlier-{number}"
        aside.mkdir()
        if self.path.is_file():
            # A copy, and first of all: weights are never without their settings, whenever this is interrupted. What
            # stays is replaced when the new run's settings are written.
            shutil.copy2(self.path, aside / self.path.name)
        for path in found:
            if self.serving and path.name == "model.pt":
                shutil.copy2(path, aside / path.name)
            else:
                path.rename(aside / path.name)
        logger.warning(
            "%s holds an earlier run: now in %s. To go on with it instead, set --resume True.", self.output_dir, aside
        )
