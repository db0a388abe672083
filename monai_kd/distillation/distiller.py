"""A student and its frozen teachers, run side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from .store import TeacherStore, fingerprint
from .taps import FeatureTaps

__all__ = ["Distiller"]


class Distiller(nn.Module):
    """Run a student and its frozen teachers on the same image and return logits and tapped features.

    Only the student is a submodule: teachers appear neither in ``parameters()`` nor in the state dict, are not
    wrapped by DDP, stay in eval mode whatever ``train()`` is called on, and run without gradients.

    Args:
        student: the network to train. It may be wrapped (``DistributedDataParallel``) later by `wrap_student`.
        teacher: one frozen network; or name to network for several; or ``None`` to train the student alone.
        student_taps: name to module path in the student, see `FeatureTaps`.
        teacher_taps: name to module path, the same for each teacher; or, for several teachers, name of the teacher
            to such a mapping.
        store: where the teachers' outputs are kept, so that each image is shown to a teacher once.

    Returns of ``forward(image)``:
        a dict with ``student`` (logits) and ``student_features`` (name to tensor), and for one teacher ``teacher`` and
        ``teacher_features``; for several ``teacher.<name>`` and ``teacher_features.<name>``.

    Raises:
        ValueError: a tap's path does not exist, or ``teacher_taps`` name a teacher that is not there.

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
    ) -> None:
        super().__init__()
        self.student = student
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
        unknown = sorted(set(taps) - {suffix[1:] for suffix in teachers if suffix}) if per_teacher else []
        if unknown:
            known = ", ".join(suffix[1:] for suffix in teachers if suffix) or "none with a name"
            raise ValueError(f"teacher_taps name {', '.join(unknown)}; teachers are {known}.")
        self._store = store
        self._fingerprints: dict[str, str] = {}
        self._teacher_taps: dict[str, FeatureTaps] = {}
        for suffix, network in teachers.items():
            network.eval().requires_grad_(False)
            self._teacher_taps[suffix] = FeatureTaps(network, taps.get(suffix[1:], {}) if per_teacher else taps)

    @property
    def teachers(self) -> dict[str, nn.Module]:
        """The frozen teachers; a single one is named ``teacher``."""
        return {suffix[1:] or "teacher": network for suffix, network in self._teachers.items()}

    def wrap_student(self, wrap) -> Distiller:
        """Replace the student by ``wrap(student)``, as for DDP; the taps stay on the bare network."""
        self.student = wrap(self.student)
        return self

    def _apply(self, fn, recurse: bool = True):
        # `.to(device)` and the like must reach the teachers too, though they are not submodules.
        for network in self._teachers.values():
            network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def _ask(self, suffix: str, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits and tapped features of one teacher, by running it or from the store."""
        network, taps = self._teachers[suffix], self._teacher_taps[suffix]

        def run(images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return network(images), taps.take()

        if self._store is None:
            return run(image)
        if suffix not in self._fingerprints:
            # Not before the first image: weights may be moved or loaded until then.
            self._fingerprints[suffix] = fingerprint(network, taps.paths)
        return self._store.answer(self._fingerprints[suffix], image, run)

    def teach(self, image: torch.Tensor) -> dict:
        """Run the teachers alone.

        Args:
            image: (B, C, H, W) or with any number of spatial axes.

        Returns:
            the teachers' items of what ``forward`` returns.
        """
        outputs: dict = {}
        for suffix, network in self._teachers.items():
            network.eval()
            with torch.no_grad():
                logits, features = self._ask(suffix, image)
            outputs[f"teacher{suffix}"], outputs[f"teacher_features{suffix}"] = logits, features
        return outputs

    def forward(self, image: torch.Tensor, teacher_outputs: Mapping[str, object] | None = None) -> dict:
        """Run student and teachers.

        Args:
            image: (B, C, H, W) or with any number of spatial axes.
            teacher_outputs: ``teacher``/``teacher_features`` items computed elsewhere, for this very image as it was
                flipped here; the teachers are then not run.
        """
        outputs = self.teach(image) if teacher_outputs is None else dict(teacher_outputs)
        outputs["student"] = self.student(image)
        outputs["student_features"] = self._student_taps.take(gradients=torch.is_grad_enabled())
        return outputs
