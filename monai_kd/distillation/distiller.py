"""Run a student and its frozen teachers on the same image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from ..losses.pairs import pool_to
from ..networks.half_weights import HalfWeights
from ..networks.mode import set_mode
from ..networks.outputs import main_logits, student_outputs
from .store import TeacherStore, fingerprint
from .taps import FeatureTaps
from .teacher_input import resize_to

__all__ = ["Distiller"]


class Distiller(nn.Module):
    """Run a student and its frozen teachers on the same image and return logits and tapped features.

    Only the student is a submodule: teachers appear neither in ``parameters()`` nor in the state dict, are not wrapped
    by DDP, stay in eval mode also after ``train()``, and run without gradients. The state dict is that of the bare
    student, under its own names, so that programs that exchange or save the weights of a trainer's network, as those
    for federated learning do, handle the student that is used later.

    Args:
        student: the network to train. It may be wrapped (``DistributedDataParallel``) later by `wrap_student`.
        teacher: one frozen network; or name to network for several; or ``None`` to train the student alone.
        student_taps: name to module path in the student, see `FeatureTaps`.
        teacher_taps: name to module path, the same for each teacher; or, for several teachers, name of the teacher
            to such a mapping.
        store: cache of the teachers' outputs, so that a teacher runs only once on each image.
        teacher_input: converts the student's batch for the teacher, such as `AdaptInput`; or, for several teachers,
            name of the teacher to such a module. Taps are still paths in the teacher itself.
        teacher_output: converts a teacher's logits to those of the student's outputs, such as `AdaptOutput`; or, for
            several teachers, name of the teacher to such a module.
        feature_sizes: name of a tap to the size, for each spatial axis, to which the teachers' features are pooled
            where they are larger, see `DistillationLoss.feature_sizes`. The store keeps them at this size.

    Returns of ``forward(image)``:
        a dict with ``student`` (logits) and ``student_features`` (name to tensor), and for one teacher ``teacher`` and
        ``teacher_features``; for several ``teacher.<name>`` and ``teacher_features.<name>``. For a student with deep
        supervision, ``student`` has the main logits and ``student_heads`` the list of all; of a teacher, only the main
        logits are used, see `monai_kd.networks.outputs.all_logits`. Logits of a teacher are resized to the grid of the
        student's by linear interpolation, ``align_corners=False``. Features are not resized.

    Raises:
        ValueError: a tap's path does not exist, or ``teacher_taps``, ``teacher_input`` or ``teacher_output`` have the
            name of an unknown teacher.
        TypeError: when called: a network returned no logits.

    Example:
        >>> distiller = Distiller(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 3, padding=1))
        >>> sorted(distiller(torch.zeros(2, 1, 8, 8)))
        ['student', 'student_features', 'teacher', 'teacher_features']
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Mapping[str, nn.Module] | None = None,
        student_taps: Mapping[str, str] | None = None,
        teacher_taps: Mapping[str, str] | Mapping[str, Mapping[str, str]] | None = None,
        store: TeacherStore | None = None,
        teacher_input: nn.Module | Mapping[str, nn.Module] | None = None,
        feature_sizes: Mapping[str, Sequence[int]] | None = None,
        teacher_output: nn.Module | Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        # In a tuple, or it would be a second submodule.
        self._bare_student = (student,)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)
        self._student_taps = FeatureTaps(student, student_taps or {})
        if teacher is None:
            teachers: dict[str, nn.Module] = {}
        elif isinstance(teacher, Mapping):
            teachers = {f".{name}": network for name, network in teacher.items()}
        else:
            teachers = {"": teacher}
        # A plain dict hides the teachers from nn.Module: no parameters, no state, no train().
        self._teachers = teachers
        taps = teacher_taps or {}
        per_teacher = bool(taps) and all(isinstance(paths, Mapping) for paths in taps.values())
        own_taps = cast("Mapping[str, Mapping[str, str]]", taps if per_teacher else {})
        shared_taps = cast("Mapping[str, str]", {} if per_teacher else taps)
        named = {
            "teacher_taps": own_taps,
            "teacher_input": teacher_input if isinstance(teacher_input, Mapping) else {},
            "teacher_output": teacher_output if isinstance(teacher_output, Mapping) else {},
        }
        for argument, names in ((argument, given.keys()) for argument, given in named.items()):
            unknown = sorted(names - {suffix[1:] for suffix in teachers if suffix})
            if unknown:
                known = ", ".join(suffix[1:] for suffix in teachers if suffix) or "none with a name"
                raise ValueError(f"{argument} name {', '.join(unknown)}; teachers are {known}.")
        self.store = store
        self._feature_sizes = {name: tuple(size) for name, size in (feature_sizes or {}).items()}
        self._fingerprints: dict[str, str] = {}
        self._teacher_taps: dict[str, FeatureTaps] = {}
        self._teacher_input: dict[str, nn.Module] = {}
        self._teacher_output: dict[str, nn.Module] = {}
        self._half: dict[str, HalfWeights] = {}
        for suffix, network in teachers.items():
            self._teacher_input[suffix] = _of(teacher_input, suffix[1:])
            self._teacher_output[suffix] = _of(teacher_output, suffix[1:])
            # TorchScript has no requires_grad_ of a module.
            for parameter in network.eval().parameters():
                parameter.requires_grad_(False)
            self._half[suffix] = HalfWeights(network)
            self._teacher_taps[suffix] = FeatureTaps(network, own_taps.get(suffix[1:], shared_taps))

    @property
    def teachers(self) -> dict[str, nn.Module]:
        """The frozen teachers; a single one is named ``teacher``."""
        return {suffix[1:] or "teacher": network for suffix, network in self._teachers.items()}

    def wrap_student(self, wrap: Callable[[nn.Module], nn.Module]) -> Distiller:
        """Replace the student by ``wrap(student)``, as for DDP; the taps stay on the bare network."""
        self.student = wrap(self.student)
        return self

    def _student_prefix(self) -> str:
        """What the names of the student's weights begin with in this module, within its wrappers."""
        for name, module in self.named_modules():
            if module is self._bare_student[0]:
                return f"{name}."
        raise ValueError("wrap_student: the student is no submodule of what it was wrapped in.")

    def _apply(self, fn, recurse: bool = True):
        # `.to(device)` and the like must also apply to the teachers, which are not submodules.
        adapters = (*self._teacher_input.values(), *self._teacher_output.values())
        for network in (*self._teachers.values(), *adapters):
            network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _run_teacher(self, suffix: str, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits and tapped features of one teacher, computed or from the store."""
        network, taps = self._teachers[suffix], self._teacher_taps[suffix]
        adapt, convert = self._teacher_input[suffix], self._teacher_output[suffix]

        def run(images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            logits = convert(main_logits(self._half[suffix](adapt(images)), network, images.ndim))
            features = taps.take()
            for name in features.keys() & self._feature_sizes.keys():
                features[name] = pool_to(features[name], self._feature_sizes[name])
            return logits, features

        if self.store is None:
            return run(image)
        if suffix not in self._fingerprints:
            # Computed at the first image: until then, weights may be loaded or moved.
            adapters = [each for each in (adapt, convert) if not isinstance(each, nn.Identity)]
            whole = nn.ModuleList([network, *adapters]) if adapters else network
            sizes = {name: f"{path} {self._feature_sizes.get(name, '')}" for name, path in taps.paths.items()}
            self._fingerprints[suffix] = fingerprint(whole, sizes)
        return self.store.answer(self._fingerprints[suffix], image, run)

    def teach(self, image: torch.Tensor) -> dict[str, Any]:
        """Run the teachers alone.

        Args:
            image: (B, C, H, W) or with any number of spatial axes.

        Returns:
            the teachers' items of what ``forward`` returns.
        """
        outputs: dict[str, Any] = {}
        for suffix, network in self._teachers.items():
            set_mode(network, False)
            with torch.no_grad():
                logits, features = self._run_teacher(suffix, image)
            outputs[f"teacher{suffix}"], outputs[f"teacher_features{suffix}"] = logits, features
        return outputs

    def forward(self, image: torch.Tensor, teacher_outputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run student and teachers.

        Args:
            image: (B, C, H, W) or with any number of spatial axes.
            teacher_outputs: the ``teacher`` and ``teacher_features`` items, computed elsewhere for this same image
                after augmentation; the teachers are then not run.
        """
        outputs = self.teach(image) if teacher_outputs is None else dict(teacher_outputs)
        outputs.update(student_outputs(self.student(image), self.student, image.ndim))
        outputs["student_features"] = self._student_taps.take(gradients=torch.is_grad_enabled())
        for key in [key for key in outputs if key == "teacher" or key.startswith("teacher.")]:
            if outputs[key].ndim == outputs["student"].ndim:
                outputs[key] = resize_to(outputs[key], outputs["student"].shape[2:])
        return outputs


def _of(adapter: nn.Module | Mapping[str, nn.Module] | None, teacher: str) -> nn.Module:
    """The one for a teacher."""
    own = adapter.get(teacher) if isinstance(adapter, Mapping) else adapter
    return (nn.Identity() if own is None else own).eval()


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    own = prefix + cast(Distiller, module)._student_prefix()
    for name in [name for name in state if name.startswith(own)]:
        state[prefix + name[len(own) :]] = state.pop(name)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_others: Any) -> None:
    own = prefix + cast(Distiller, module)._student_prefix()
    for name in [name for name in state if name.startswith(prefix)]:
        state[own + name[len(prefix) :]] = state.pop(name)
