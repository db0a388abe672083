"""The teacher of a distillation: loaded from its checkpoint, or trained first by its own bundle."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monai.bundle import ConfigParser
from torch import nn

from ..config import build_network, check_overrides, check_settings, literal
from ..data import datalist_path
from ..io import load_weights, read_checkpoint
from ..io.checksum import file_sha256
from ..io.first_process import from_first, is_distributed
from ..io.trained import HASH, read_trained
from ..networks import Ensemble, LateFusionClassifier
from .fingerprint import fingerprint
from .running import Unbuilt
from .teacher_leaks import warn_of_leaks
from .teacher_settings import MEANING, NORMALIZATION, described_settings
from .trained import trained_settings
from .workflow import Workflow

__all__ = ["Teacher"]

logger = logging.getLogger(__name__)

# Settings of the teacher that the settings.json of its student records.
_RECORDED = (
    *("dataset_dir", "datalist_sha256", "fold", "leave_out", "epochs", "learning_rate", "image_size"),
    *("network_def", "taps", "labelled_share", "ensemble_of", NORMALIZATION, HASH),
)


class Teacher:
    """The teacher of a student. Nothing is read, built or trained before it is needed.

    The network, its taps and its input are described by the ``settings.json`` beside its checkpoint or, for a teacher
    that is trained first, by the config of its bundle. So any network that was trained with a bundle of this package
    can be a teacher, and a student's config need not describe it.

    A warning is logged if the teacher was trained on slices that validate the student or are left out of its training.

    Args:
        checkpoint: weights of the teacher; ``None`` to train it once, with the teacher's bundle and the same data, in
            ``<output_dir>/teacher-<fingerprint of the settings and the data>/``.
        bundle: folder of the teacher's bundle.
        output_dir: folder of the student's run.
        run: values of the student's run that the teacher is trained with too, by the ids of the teacher's config.
        overrides: other values for the teacher's config, which builds the ``definitions`` of `Unbuilt`.
        taps: name to module path in the teacher, instead of the taps of its settings.
        configs: config files of the bundle that train a teacher; later ones override earlier ones.
        class_names: not used; configs of earlier versions give it.
        settings: describe a checkpoint of another origin, or replace what its ``settings.json`` says, see
            `described_settings`.

    Raises:
        ValueError: ``overrides`` are no values by their ids, or ``leave_out`` of the run is no list of folds.
    """

    def __init__(
        self,
        checkpoint: str | None,
        bundle: str | Path,
        output_dir: str | Path,
        run: Mapping[str, Any],
        overrides: Mapping[str, Any] | None = None,
        taps: Mapping[str, str] | None = None,
        configs: Sequence[str] = ("train.json",),
        class_names: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.checkpoint = None if checkpoint is None else Path(checkpoint).expanduser()
        self.bundle, self.output_dir = Path(bundle).expanduser(), Path(output_dir).expanduser()
        if not isinstance(overrides or {}, Mapping):
            raise ValueError(
                "teacher_overrides must be values for the teacher's config by their ids, such as "
                f"\"{{'epochs': 20}}\", got {overrides!r}."
            )
        if not isinstance(run["leave_out"], (list, tuple)):
            raise ValueError(f"leave_out must be a list of folds, such as [0], got {run['leave_out']!r}.")
        self.dataset_dir, self.kept_from = run["dataset_dir"], {run["fold"], *run["leave_out"]}
        self.labelled_share = run.get("labelled_share", 1)
        # Without what a teacher's bundle of one's own need not have.
        given = {name: value for name, value in run.items() if name != "batch_augmentation" or value}
        self._definitions = overrides.definitions if isinstance(overrides, Unbuilt) else frozenset[str]()
        self.run, self._overridden = {**given, **(overrides or {})}, list(overrides or {})
        self._taps, self._configs = taps, list(configs)
        self._described = dict(settings or {})

    @property
    def named(self) -> str:
        """For messages."""
        if self.checkpoint is None:
            return "the teacher of teacher_overrides"
        return f"teacher_checkpoint {self.checkpoint}"

    @property
    def is_described(self) -> bool:
        """Whether the config of the student describes the teacher, which then may be of another origin."""
        return bool(self._described)

    def origin_of(self, name: str) -> str:
        """Where a setting of the teacher comes from, for messages."""
        if name in self._described:
            return f"of teacher_settings#{name}"
        if self.checkpoint is not None:
            return "of its settings.json"
        return "of teacher_overrides" if name in self._overridden else "of its training, as teacher_overrides may set"

    @cached_property
    def trained(self) -> dict[str, Any]:
        """The ``settings.json`` of the teacher; for one that is trained first, the settings that it will have.

        Raises:
            FileNotFoundError: there is no such checkpoint, or no bundle to train one with.
            ValueError: the settings can't be read.
        """
        if self.checkpoint is None:
            if self._described:
                raise ValueError("teacher_settings describes the weights of a teacher_checkpoint, and none is given.")
            return self._planned()
        if self._overridden:
            logger.warning("teacher_overrides: NOT used, since a teacher_checkpoint is given, which is not trained.")
        described = self._described
        settings = described_settings(self.checkpoint, described) if described else trained_settings(self.checkpoint)
        return settings

    def _planned(self) -> dict[str, Any]:
        """The settings of a teacher that is trained first, checked before anything is built from them."""
        workflow, files = self._workflow(), [str(file) for file in self._files()]
        known = ConfigParser()
        known.read_config(files)
        if lacking := [name for name in self.run if name not in known and name not in self._overridden]:
            raise ValueError(
                f"teacher_bundle {self.bundle}: its training has no {', '.join(lacking)}, which it gets from that of "
                "the student: give a teacher's bundle of this package and of the same task. Weights that were trained "
                "elsewhere teach as --teacher_checkpoint with teacher_settings, see docs/training.md."
            )
        check_overrides(self.run, known, files[0])
        settings = {name: workflow.value(f"settings::{name}") for name in workflow.parser["settings"]}
        try:
            check_settings({name: settings[name] for name in ("network_def", *self._overridden) if name in settings})
        except ValueError as error:
            raise ValueError(f"teacher_overrides: {error}") from None
        settings["datalist_sha256"] = file_sha256(datalist_path(str(self.run["dataset_dir"])))
        return settings

    @property
    def settings(self) -> dict[str, Any]:
        """For the ``settings.json`` of the student: the absolute path ``checkpoint``, and how it was trained."""
        path = self._folder / "model.pt" if self.checkpoint is None else self.checkpoint
        recorded = {name: self.trained.get(name) for name in _RECORDED}
        # Not those that are only completed: a classifier has no masks.
        saved = self.trained if self.checkpoint is None else read_trained(self.checkpoint) or {}
        given = {*saved, *self._described}
        recorded |= {name: self.trained[name] for name in MEANING if name in given}
        # Those that features are compared with.
        own = {"taps": dict(self._taps)} if self._taps else {}
        return {"checkpoint": str(path.resolve()), **recorded, **own}

    def untrained(self) -> nn.Module:
        """The network with random weights, frozen, on the CPU; torch's random state is not changed.

        Raises:
            ValueError: the network can't be built; see `build_network`.
        """
        with torch.random.fork_rng(devices=[]):
            trusted = self.checkpoint is None or "network_def" in self._described
            network = build_network(self.trained["network_def"], trusted=trusted)
        for parameter in network.parameters():
            parameter.requires_grad_(False)  # Or copies of a TorchScript network could not be frozen any more.
        return network

    def taps(self, network: nn.Module, names: Sequence[str]) -> dict[str, str]:
        """Name to module path in the network, for the names of the student's taps.

        Raises:
            ValueError: the teacher has no tap of one of these names, or its modules can't be tapped.
        """
        if isinstance(network, torch.jit.ScriptModule):
            raise ValueError(
                "the teacher is TorchScript, whose modules can't be tapped: choose a recipe that compares outputs "
                "alone, such as --recipe kd."
            )
        taps: Mapping[str, str] = self._taps or self.trained.get("taps") or {}
        first, path = network, ""
        while isinstance(first, Ensemble):
            first, path = first.networks[0], f"{path}networks.0."
        if not taps and len(names) == 1 and isinstance(first, LateFusionClassifier):
            taps = {names[0]: path + first.last_convolution()}
        lacking = [name for name in names if name not in taps]
        if lacking:
            raise ValueError(
                f"teacher_taps: the teacher, {type(network).__name__}, has no module to compare with "
                f"{', '.join(lacking)} of the student; it has taps for {', '.join(taps) or 'none'}. Give "
                "--teacher_taps \"{'name': 'module.path'}\"; `python -m monai_kd taps` lists the modules."
            )
        return {name: taps[name] for name in names}

    def warn_unused(self) -> None:
        """Log a warning for each value that is not used, because no term of the recipe needs a teacher."""
        if self.checkpoint is not None:
            logger.warning("teacher_checkpoint %s is not used: this recipe has no teacher.", self.checkpoint)
        if self._overridden:
            logger.warning("teacher_overrides: NOT used: this recipe has no teacher.")

    def warn_unused_taps(self) -> None:
        """Log a warning if taps were given, because no term of the recipe compares features."""
        if self._taps:
            logger.warning("teacher_taps: NOT used, since no term of this recipe compares features.")

    def load(self) -> nn.Module:
        """The network with its weights, trained first when no checkpoint was given.

        Raises:
            FileNotFoundError: there is no such checkpoint, or no bundle to train one with.
            ValueError: the checkpoint does not fit its network.
        """
        network = self.untrained()
        if self.dataset_dir is not None:
            # Of slices that are given one by one, no metrics are reported. One that is trained first may differ from
            # the student by its overrides.
            warn_of_leaks(self.named, self.trained, self.dataset_dir, self.kept_from, self.labelled_share)
        checkpoint = self._train() if self.checkpoint is None else self.checkpoint
        logger.info("teacher: %s", checkpoint)
        if self.checkpoint is None:
            # Only the first process has the files of a teacher that was trained here.
            network.load_state_dict(from_first(lambda: load_weights(network, checkpoint).state_dict()))
            return network
        return load_weights(network, checkpoint)

    @cached_property
    def _folder(self) -> Path:
        """The folder that the teacher is trained in, named after its settings and its data."""
        folder = self.output_dir / f"teacher-{fingerprint(self.run)}"
        before = self.output_dir / f"teacher-{fingerprint(self.run, by_amp=True)}"
        return before if before.is_dir() and not folder.is_dir() else folder

    def _files(self) -> list[Path]:
        names = [*self._configs, *(["multi_gpu_train.json"] if is_distributed() else [])]
        return [self.bundle / "configs" / name for name in names]

    def _workflow(self, **more: Any) -> Workflow:
        files = self._files()
        if self.dataset_dir is None:
            raise ValueError(
                "this recipe has a teacher, and there is no data set to train one on: give --teacher_checkpoint FILE."
            )
        if not files[0].is_file():
            raise FileNotFoundError(
                f"no teacher_checkpoint was given, and the teacher's bundle is not in {self.bundle.resolve()}: give "
                "--teacher_checkpoint FILE, or --teacher_bundle FOLDER."
            )
        values = {**self.run, "output_dir": str(self._folder), **more}
        # Transforms are objects, which can't be written as text, and definitions are built by the config.
        objects = {"augmentation", "batch_augmentation", *self._definitions}
        given = {name: value if name in objects else literal(value) for name, value in values.items()}
        return Workflow([str(file) for file in files], workflow_type="train", logging_file=False, **given)

    def _train(self) -> Path:
        best, last = self._folder / "model.pt", self._folder / "last.ckpt"
        done, there = from_first(lambda: (read_checkpoint(last)["epoch"] if last.is_file() else 0, best.is_file()))
        if done >= self.trained["epochs"] and there:
            # Raises an error if model.pt is not the checkpoint that was trained here.
            from_first(lambda: read_trained(best))
            logger.warning("No teacher_checkpoint was given: using the teacher trained earlier in %s.", self._folder)
            return best
        logger.warning(
            "No teacher_checkpoint was given: training the teacher FIRST, once, for %d epochs (teacher_overrides has "
            "values for it), on %s, into %s.",
            *(self.trained["epochs"], self.run["dataset_dir"], self._folder),
        )
        # A run that is complete, but lost its model.pt, is trained again from the start.
        workflow = self._workflow(resume=0 < done < self.trained["epochs"])
        workflow.initialize()
        workflow.run()
        if is_distributed():
            # The first process has written the checkpoint when it gets here. `finalize` would leave the group.
            dist.barrier()
        else:
            workflow.finalize()
        logger.warning("The teacher is trained: %s. Now the student.", best)
        return best
