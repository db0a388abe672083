"""The weighted sum of named loss terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn

from ..near_names import near_names
from .inputs import PROJECTED, TAPPED, check_inputs, inputs_of, use
from .pairs import ComparedFeatures
from .probability import full_precision
from .projection import Projections
from .report import LossReport
from .rows import nothing_of, rows_of
from .weights import check_weights
from .with_teacher import WithTeacher

__all__ = ["DistillationLoss"]


class DistillationLoss(nn.Module):
    r"""Weighted sum of named loss terms.

    .. math:: \mathcal{L} = \sum_k w_k \, \mathcal{L}_k

    The attribute ``inputs`` of a term lists its arguments: ``student``, ``teacher`` (logits), ``student_features``,
    ``teacher_features`` (layer name to tensor, projected to the same channels), ``student_taps``, ``teacher_taps``
    (layer name to tensor as tapped, of any shape), ``label``, and of a network of masks that also classifies
    ``student_classes`` and ``class``, see `SliceClassCE`. A loss without this attribute, such as those of MONAI and
    torch, is supervised: it is called with ``(student, label)``. The teacher's tensors may come from a forward pass or
    from a `TeacherStore`.

    Features may be in half precision. A term whose attribute ``takes_half`` is true gets them as they are, and computes
    differences and sums in float32; any other term gets them in float32. What several terms need of a pair of layers is
    computed once, see `monai_kd.losses.pairs.Pair`.

    Args:
        terms: name to loss module.
        weights: name to weight, for the same names; a term of weight 0 is computed and reported as well, without
            gradients.
        projections: applied once to the features, before the terms. They have the only parameters of the loss: pass
            ``loss.parameters()`` to the optimiser together with the student's. For several teachers: name of the
            teacher to `Projections`.

    Raises:
        ValueError: the names of ``terms`` and ``weights`` differ, a weight is not a number or is negative, or all are
            0; when called, an input of a term is missing, or, on a CPU, the loss is not finite.

    Example:
        >>> from monai_kd.losses import LogitKL
        >>> terms = {"ce": nn.CrossEntropyLoss(), "kl": LogitKL(activation="softmax")}
        >>> loss = DistillationLoss(terms, {"ce": 0.1, "kl": 0.9})
        >>> z = torch.zeros(2, 3)
        >>> report = loss({"student": z, "teacher": z}, torch.tensor([0, 1]))
        >>> float(report.weighted["kl"])
        0.0
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        projections: Projections | Mapping[str, Projections] | None = None,
    ) -> None:
        super().__init__()
        if set(terms) != set(weights):
            odd = sorted(set(terms) ^ set(weights))
            known = set(terms) | set(weights)
            hints = [f"{name}{near_names(name, known)}" for name in odd]
            raise ValueError(f"loss terms and weights must have the same names; only on one side: {', '.join(hints)}.")
        check_weights(weights)
        self.terms = nn.ModuleDict(terms)
        self.weights = {name: float(weights[name]) for name in terms}
        if projections is None:
            projections = {}
        elif isinstance(projections, Projections):
            projections = {"teacher": projections}
        self.projections = nn.ModuleDict(projections)

    @classmethod
    def from_recipe(
        cls,
        terms: Mapping[str, Callable[[], nn.Module]],
        weights: Mapping[str, float],
        projections: Callable[[], Projections | Mapping[str, Projections]]
        | Projections
        | Mapping[str, Projections]
        | None = None,
    ) -> DistillationLoss:
        """Build only the terms that have a weight.

        Args:
            terms: name to a callable without arguments that builds the term, for every term that a recipe may name. In
                a config of MONAI, an entry with ``"_mode_": "callable"``.
            weights: the recipe: name of a term to its weight. A term of weight 0 is built, computed and reported.
            projections: as for the class, or a callable that builds them. They are built, and kept, only when a term of
                the recipe compares projected features.

        Raises:
            ValueError: as for the class; there is no term of the name of a weight, a term is not given as a callable,
                or the callable returns no module.

        Example:
            >>> from monai_kd.losses import FeatureLoss, LogitKL
            >>> loss = DistillationLoss.from_recipe({"kl": LogitKL, "feature": FeatureLoss}, {"kl": 1.0})
            >>> list(loss.terms), loss.needs_teacher, loss.needs_features
            (['kl'], True, False)
        """
        unknown = sorted(set(weights) - set(terms))
        if unknown:
            hints = [f"{name}{near_names(name, terms)}" for name in unknown]
            raise ValueError(f"there is no loss term of the name {', '.join(hints)}; terms are {', '.join(terms)}.")
        check_weights(weights)
        built = {name: _built(name, terms[name]) for name in weights}
        if not use(built.values(), PROJECTED):
            projections = None
        elif projections is not None and not isinstance(projections, (Projections, Mapping)):
            projections = projections()
        return cls(built, weights, projections)

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher: its logits or its features."""
        return any(name.startswith("teacher") for term in self.terms.values() for name in inputs_of(term))

    @property
    def learns_unlabelled(self) -> bool:
        """Whether any term of a weight above 0 compares with a teacher and needs no label."""
        counted = (set(inputs_of(term)) for name, term in self.terms.items() if self.weights[name] > 0)
        return any("label" not in names and any(name.startswith("teacher") for name in names) for names in counted)

    @property
    def needs_classes(self) -> bool:
        """Whether any term needs the class of each item beside its label."""
        return any("class" in inputs_of(term) for term in self.terms.values())

    @property
    def needs_features(self) -> bool:
        """Whether any term compares features, so that layers must be tapped."""
        return use(self.terms.values(), PROJECTED, TAPPED)

    def feature_sizes(
        self, student: Mapping[str, Sequence[int]], teacher: Mapping[str, Sequence[int]]
    ) -> dict[str, tuple[int, ...]]:
        """The size to which the teacher's features of each layer may be pooled without a change of the loss.

        The terms here pool the larger map to the smaller one, and pooling commutes with projections, which are linear:
        the teacher's features can be pooled before they are stored. A term says what it needs by a method
        ``feature_size(student, teacher)`` of the sides of both maps; any other term of ``takes_half`` pools to the
        smaller map, and a term from elsewhere gets the features as they are.

        Args:
            student, teacher: layer name to the shape of its features, (B, C, spatial axes …).

        Example:
            >>> from monai_kd.losses import FeatureLoss
            >>> loss = DistillationLoss({"f": FeatureLoss()}, {"f": 1.0})
            >>> loss.feature_sizes({"d1": (1, 4, 8, 8)}, {"d1": (1, 4, 32, 32)})
            {'d1': (8, 8)}
        """
        terms = [term for term in map(_inner, self.terms.values()) if use([term], PROJECTED, TAPPED)]
        sizes = {}
        for name in student.keys() & teacher.keys():
            sides = tuple(student[name][2:]), tuple(teacher[name][2:])
            wanted = [_feature_size(term, *sides) for term in terms] or [sides[1]]
            sizes[name] = tuple(max(each) for each in zip(*wanted, strict=True))
        return sizes

    @property
    def _with_energies(self) -> bool:
        return any(getattr(_inner(term), "needs_energies", False) for term in self.terms.values())

    def _projected(self, outputs: Mapping[str, object]) -> dict[str, object]:
        """The outputs with features as tapped and projected; of the student, for each of several teachers."""
        projected = dict(outputs)
        for key in outputs:
            if not key.startswith("teacher_features"):
                continue
            suffix = key.removeprefix("teacher_features")
            name = suffix[1:] or "teacher"
            if name in self.projections:
                student, teacher = self.projections[name](outputs["student_features"], outputs[key])
            else:
                student, teacher = outputs["student_features"], outputs[key]
            projected[f"student_taps{suffix}"] = outputs["student_features"]
            projected[f"teacher_taps{suffix}"] = outputs[key]
            projected[f"student_features{suffix}"] = ComparedFeatures(student, self._with_energies)
            projected[key] = teacher
        return projected

    def term_value(self, name: str, inputs: Iterable[object]) -> torch.Tensor:
        """The term ``name``, without its weight, called with ``inputs``.

        Raises:
            ValueError: the term does not take the inputs, or does not return one number.
        """
        term = self.terms[name]
        half = getattr(_inner(term), "takes_half", False)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
            try:
                value = term(*(each if half else _in_full(each) for each in inputs))
            except (AssertionError, TypeError, ValueError) as error:
                raise ValueError(f"loss term '{name}': {error}") from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            shape = f"tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            hint = "a tensor of one number is needed, as of the reduction 'mean'"
            raise ValueError(f"loss term '{name}' returns a {shape}, and {hint}.")
        return value.reshape(())

    def forward(
        self,
        outputs: Mapping[str, object],
        label: torch.Tensor | None = None,
        labelled: Sequence[bool] | torch.Tensor | None = None,
        classes: Sequence[int] | torch.Tensor | None = None,
    ) -> LossReport:
        """Compute all terms.

        Terms that need a label see the items that have one alone, so that they are means over these; all other terms
        see all items.

        Args:
            outputs: what `Distiller.forward` returns.
            label: ground truth of the supervised terms: (B, 1, H, W) masks for segmentation, (B,) classes for
                classification.
            labelled: for each item, whether it has a label, as a list or on the CPU, so that nothing waits for a
                device; ``None``: all have one. What ``label`` holds of the others is not used.
            classes: for segmentation, the class of each item in the data list, as a list or on the CPU, for the terms
                that need it; see `needs_classes`.
        """
        available = {**self._projected(outputs), "label": label}
        available["class"] = None if classes is None else torch.as_tensor(classes)
        # A network without deep supervision has one head.
        available.setdefault("student_heads", [available.get("student")])
        values: dict[str, torch.Tensor] = {}
        marks = None if labelled is None else torch.as_tensor(labelled)
        rows = None if marks is None or bool(marks.all()) else marks.nonzero().flatten()
        undefined = []
        there = [key for key, value in available.items() if value is not None]
        for name, term in self.terms.items():
            check_inputs({name: term}, there)
            wanted = inputs_of(term)
            given = [available[key] for key in wanted]
            if rows is not None and "label" in wanted:
                if not len(rows):
                    undefined.append(name)
                    values[name] = nothing_of(given)
                    continue
                given = [rows_of(value, rows) for value in given]
            values[name] = self.term_value(name, given)
        # A term of weight 0 is left out of the sum rather than multiplied by 0, because it may be infinite.
        counted = [self.weights[name] * value for name, value in values.items() if self.weights[name] > 0]
        total = torch.stack(counted).sum()
        # Asked elsewhere, it would wait for the device in each step; there, EpochLog checks the sums of the epoch.
        if total.device.type == "cpu" and not torch.isfinite(total):
            found = ", ".join(f"{name} = {float(value.detach()):g}" for name, value in values.items())
            raise ValueError(f"the loss is not finite: {found}. A lower learning rate or smaller weights may help.")
        return LossReport(
            total=total,
            terms={name: value.detach() for name, value in values.items()},
            weighted={name: value.detach() * self.weights[name] for name, value in values.items()},
            undefined=tuple(undefined),
        )


def _feature_size(term: nn.Module, student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[int, ...]:
    own = getattr(term, "feature_size", None)
    if own is not None:
        return tuple(own(student, teacher))
    return tuple(map(min, student, teacher)) if getattr(term, "takes_half", False) else teacher


def _in_full(value: object) -> object:
    """Features converted to float32 where they are in half precision; logits and labels as they are."""
    if not isinstance(value, Mapping):
        return value
    full = {name: full_precision(each) for name, each in value.items()}
    return value if all(each is full[name] for name, each in value.items()) else full


def _inner(term: nn.Module) -> nn.Module:
    return term.term if isinstance(term, WithTeacher) else term


def _built(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    if isinstance(build, nn.Module) or not callable(build):
        raise ValueError(
            f"loss term '{name}' must be given as a callable without arguments that builds it, not as a "
            f'{type(build).__name__}; in a config, by "_mode_": "callable".'
        )
    try:
        term = build()
    except TypeError as error:
        raise ValueError(f"loss term '{name}' can't be built with these arguments: {error}.") from error
    if not isinstance(term, nn.Module):
        raise ValueError(f"loss term '{name}' must be built as a module, got a {type(term).__name__}.")
    return term
