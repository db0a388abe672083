"""The store of teacher outputs: what it returns is what the teacher would have returned."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from monai_kd.distillation import Distiller, TeacherStore
from monai_kd.distillation.store import fingerprint
from monai_kd.losses import DistillationLoss, FeatureLoss, LogitKL, Projections


class Counting(nn.Module):
    """A teacher that counts the images that it was shown, and normalises by its batch when it is in train mode."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Conv2d(4, 1, 1)
        self.seen = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.head(self.layer(x))


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def distiller(folder, seed: int = 0, tap: str = "layer") -> tuple[Distiller, Counting]:
    teacher = Counting(seed)
    student = nn.Conv2d(1, 1, 3, padding=1)
    return Distiller(student, teacher, {}, {"f": tap}, TeacherStore(folder)), teacher


def test_second_time_nothing_is_computed_and_all_is_the_same(tmp_path):
    d, teacher = distiller(tmp_path)
    direct = Distiller(d.student, Counting(), {}, {"f": "layer"})(images(3))
    first, again = d(images(3)), d(images(3))
    assert teacher.seen == 3
    for found in (first, again):
        assert torch.equal(found["teacher"], direct["teacher"])
        assert torch.equal(found["teacher_features"]["f"], direct["teacher_features"]["f"])
    other_run, other_teacher = distiller(tmp_path)
    assert torch.equal(other_run(images(3))["teacher"], direct["teacher"])
    assert other_teacher.seen == 0


def test_an_entry_holds_one_image_of_its_batch(tmp_path):
    """What is saved of a view of a tensor is the whole tensor."""
    distiller(tmp_path / "alone")[0](images(1))
    distiller(tmp_path / "batch")[0](images(16))
    (alone,) = tmp_path.glob("alone/*/*.pt")
    sizes = [path.stat().st_size for path in tmp_path.glob("batch/*/*.pt")]
    assert len(sizes) == 16
    assert max(sizes) == pytest.approx(alone.stat().st_size, rel=0.05)


def test_known_and_new_images_of_a_batch_keep_their_places(tmp_path):
    d, teacher = distiller(tmp_path)
    known = images(4)
    d(known[[3, 1]])
    found = d(known)
    assert teacher.seen == 4
    torch.testing.assert_close(found["teacher"], teacher(known), rtol=0, atol=1e-6)
    torch.testing.assert_close(found["teacher_features"]["f"], teacher.layer(known), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x.flip(2), id="flipped"),
        pytest.param(lambda x: x + 1e-6, id="other-values"),
        pytest.param(lambda x: x.reshape(2, 1, 4, 16), id="same-bytes-in-another-shape"),
    ],
)
def test_another_image_is_another_entry(tmp_path, change):
    d, teacher = distiller(tmp_path)
    d(images(2))
    changed = change(images(2))
    assert torch.equal(d(changed)["teacher"], teacher(changed))


def test_memory_format_is_no_part_of_an_image(tmp_path):
    teacher = Counting()
    d = Distiller(nn.Conv2d(3, 1, 1), nn.Sequential(nn.Conv2d(3, 1, 1), teacher), store=TeacherStore(tmp_path))
    image = torch.randn(2, 3, 8, 8)
    d(image)
    d(image.to(memory_format=torch.channels_last))
    assert teacher.seen == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: {"seed": 1}, id="weights"),
        pytest.param(lambda: {"tap": "layer.0"}, id="tap"),
    ],
)
def test_another_teacher_or_tap_asks_anew(tmp_path, other):
    distiller(tmp_path)[0](images(2))
    d, teacher = distiller(tmp_path, **other())
    found = d(images(2))
    assert teacher.seen == 2
    assert torch.equal(found["teacher"], teacher(images(2)))


def test_statistics_and_plain_values_are_part_of_the_fingerprint():
    same, moved, strided = Counting().eval(), Counting().eval(), Counting().eval()
    moved.layer[1].running_mean += 1
    strided.layer[0].stride = (2, 2)
    prints = {fingerprint(network, {}) for network in (Counting().eval(), same, moved, strided)}
    assert fingerprint(same, {}) == fingerprint(Counting().eval(), {})
    assert len(prints) == 3


def test_precision_is_part_of_the_key_and_kept(tmp_path):
    d, teacher = distiller(tmp_path)
    full = d(images(2))["teacher"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first, again = d(images(2)), d(images(2))
    assert teacher.seen == 4
    assert full.dtype is torch.float32
    assert first["teacher"].dtype is again["teacher"].dtype is torch.bfloat16
    assert torch.equal(first["teacher"], again["teacher"])


def test_two_teachers_do_not_share_entries(tmp_path):
    teachers = {"a": Counting(0), "b": Counting(1)}
    d = Distiller(nn.Conv2d(1, 1, 1), teachers, store=TeacherStore(tmp_path))
    d(images(2))
    found = d(images(2))
    assert all(teacher.seen == 2 for teacher in teachers.values())
    for name, teacher in teachers.items():
        assert torch.equal(found[f"teacher.{name}"], teacher(images(2)))


def test_gradients_from_stored_features_reach_student_and_projection(tmp_path):
    student = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1))
    d = Distiller(student, Counting(), {"f": "0"}, {"f": "layer"}, TeacherStore(tmp_path))
    loss = DistillationLoss(
        {"kl": LogitKL(), "f": FeatureLoss()}, {"kl": 1.0, "f": 1.0}, Projections({"f": (2, 4)}, side="teacher")
    )
    for _ in range(2):
        student.zero_grad()
        loss.zero_grad()
        loss(d(images(2))).total.backward()
        parameters = [*student.parameters(), *loss.parameters()]
        assert all(parameter.grad.abs().sum() > 0 for parameter in parameters)


def test_damaged_entry_is_one_clear_error(tmp_path):
    d, _ = distiller(tmp_path)
    d(images(1))
    (entry,) = tmp_path.rglob("*.pt")
    entry.write_bytes(entry.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{entry.name} can't be read"):
        d(images(1))


def test_fingerprint_is_of_the_network_and_not_of_what_it_saw():
    # In training, MONAI's DynUNet keeps the heads of the last batch in a list, and begins with random ones.
    def network(kernel: int | list[int] = 3) -> DynUNet:
        torch.manual_seed(0)
        sizes = {"kernel_size": [kernel] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4] * 3}
        return DynUNet(2, 1, 1, **sizes, deep_supervision=True)

    net, again = network(), network()
    again(images(1))
    assert fingerprint(net, {}) == fingerprint(again, {})
    assert fingerprint(net, {}) != fingerprint(network(kernel=5), {})
