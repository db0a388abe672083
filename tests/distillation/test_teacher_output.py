"""The outputs of a teacher as those of a student: the probabilities stay what they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_kd.distillation import AdaptOutput, Distiller, TeacherStore, rehearse
from monai_kd.losses import DistillationLoss, LogitKL

SHAPES = [(2, 5, 4, 3), (2, 5, 3, 2, 4), (6, 5)]


@pytest.fixture(params=SHAPES, ids=str)
def logits(request) -> torch.Tensor:
    return 4 * torch.randn(request.param, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("channels", [[3], [4, 1], [1, 2, 3, 4], [[1, 3], 2], [[2, 4, 1]]], ids=str)
class TestOfASoftmax:
    def expected(self, logits: torch.Tensor, channels: list) -> list[torch.Tensor]:
        p = logits.softmax(1)
        return [p[:, each if isinstance(each, list) else [each]].sum(1) for each in channels]

    def test_to_a_sigmoid(self, logits, channels):
        found = AdaptOutput(channels, "softmax", "sigmoid")(logits).sigmoid()
        torch.testing.assert_close(found.double(), torch.stack(self.expected(logits, channels), 1), atol=1e-6, rtol=0)

    def test_to_a_softmax(self, logits, channels):
        found = AdaptOutput(channels, "softmax", "softmax")(logits).softmax(1)
        expected = self.expected(logits, channels)
        rest = 1 - torch.stack(expected).sum(0)
        torch.testing.assert_close(found.double(), torch.stack([rest, *expected], 1), atol=1e-6, rtol=0)

    def test_of_classes(self, logits, channels):
        found = AdaptOutput(channels, "softmax", "softmax", background=False)(logits).softmax(1)
        expected = torch.stack(self.expected(logits, channels), 1)
        torch.testing.assert_close(found.double(), expected / expected.sum(1, keepdim=True), atol=1e-6, rtol=0)


class TestOfSigmoids:
    def test_some_in_another_order(self, logits):
        assert torch.equal(AdaptOutput([2, 0], "sigmoid", "sigmoid")(logits), logits[:, [2, 0]])

    def test_one_to_a_softmax(self, logits):
        found = AdaptOutput([2], "sigmoid", "softmax")(logits).softmax(1)
        torch.testing.assert_close(found[:, 1], logits[:, 2].sigmoid())

    def test_all_as_they_are(self, logits):
        assert torch.equal(AdaptOutput(range(5), "sigmoid", "sigmoid")(logits), logits)


def test_certain_outputs_stay_finite_also_in_half_precision():
    logits = torch.tensor([[-200.0, 300.0, -250.0]], dtype=torch.bfloat16)
    for target in ("sigmoid", "softmax"):
        found = AdaptOutput([2], "softmax", target)(logits)
        assert found.dtype == torch.float32
        assert found.isfinite().all()
    torch.testing.assert_close(AdaptOutput([1], "softmax", "sigmoid")(logits), torch.tensor([[500.0]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], "sigmoid", "sigmoid"), "different numbers from 0"),
        (([[], 1], "softmax", "softmax"), "different numbers from 1"),
        (([1, [2, 1]], "softmax", "softmax"), r"different numbers from 1, at least one, got \[1, \[2, 1\]\]"),
        (([0, 1], "softmax", "softmax"), "different numbers from 1"),
        (([0], "relu", "softmax"), "source and target must be sigmoid or softmax, got relu"),
        (([0, 1], "sigmoid", "softmax"), "may overlap"),
        (([[0, 1]], "sigmoid", "sigmoid"), "may overlap"),
        (([[0, 1]], "sigmoid", "softmax"), "may overlap"),
        (([0], "softmax", "sigmoid", False), "no background"),
    ],
)
def test_what_does_not_follow_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdaptOutput(*arguments)


def test_channels_that_are_not_there_or_not_described():
    with pytest.raises(IndexError, match=r"channels \[\[3\]\] of logits with 3, counted from 0"):
        AdaptOutput([3], "softmax", "sigmoid")(torch.zeros(1, 3, 2, 2))
    with pytest.raises(IndexError, match="returns 3 outputs, and 4 are described"):
        AdaptOutput([2], "softmax", "sigmoid", outputs=4)(torch.zeros(1, 3, 2, 2))


class TestInTheDistiller:
    adapt = AdaptOutput([2], "softmax", "sigmoid")

    @pytest.fixture
    def networks(self) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        return nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1)

    def test_a_student_of_the_same_probabilities_has_no_loss(self, networks):
        _, teacher = networks
        student = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), AdaptOutput([2], "softmax", "sigmoid"))
        student[0].load_state_dict(teacher.state_dict())
        distiller = Distiller(student, teacher, teacher_output=self.adapt)
        loss = DistillationLoss({"kl": LogitKL(temperature=3.0)}, {"kl": 1})
        assert float(loss(distiller(torch.randn(2, 1, 8, 8))).total) < 1e-6

    def test_several_teachers_each_with_its_own(self, networks):
        student, teacher = networks
        image = torch.randn(2, 1, 8, 8)
        both = {"a": teacher, "b": nn.Conv2d(1, 1, 1)}
        outputs = Distiller(student, both, teacher_output={"a": self.adapt})(image)
        assert torch.equal(outputs["teacher.a"], self.adapt(teacher(image)))
        assert torch.equal(outputs["teacher.b"], both["b"](image))
        with pytest.raises(ValueError, match="teacher_output name c; teachers are a, b"):
            Distiller(student, both, teacher_output={"c": self.adapt})

    def test_a_store_keeps_what_was_converted_and_knows_it(self, networks, tmp_path):
        student, teacher = networks
        image = torch.randn(2, 1, 8, 8)
        for adapt in (self.adapt, AdaptOutput([1], "softmax", "sigmoid"), None):
            for _ in range(2):
                distiller = Distiller(student, teacher, store=TeacherStore(tmp_path), teacher_output=adapt)
                found = distiller.teach(image)["teacher"]
                live = teacher(image) if adapt is None else adapt(teacher(image))
                torch.testing.assert_close(found.float(), live, atol=2e-3, rtol=2e-3)
        assert len([each for each in tmp_path.iterdir() if each.is_dir()]) == 3

    def test_a_rehearsal_has_its_shape(self, networks):
        found = rehearse(*networks, image=torch.zeros(1, 1, 8, 8), teacher_output=self.adapt)
        assert found.shapes["teacher"] == (1, 1, 8, 8)
