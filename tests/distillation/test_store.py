"""The store of teacher outputs: what it returns is what the teacher would have returned."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from monai_kd.distillation import Distiller, TeacherStore
from monai_kd.distillation.store import fingerprint
from monai_kd.losses import (
    AttentionLoss,
    DistillationLoss,
    FeatureLoss,
    LogitKL,
    MultiScaleFusionLoss,
    Projections,
    WithTeacher,
)


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
    return Distiller(student, teacher, {}, {"f": tap}, TeacherStore(folder, half=False)), teacher


def test_second_time_nothing_is_computed_and_all_is_the_same(tmp_path):
    d, teacher = distiller(tmp_path)
    direct = Distiller(d.student, Counting(), {}, {"f": "layer"})(images(3))
    first, again = d(images(3)), d(images(3))
    assert teacher.seen == 3
    for found in (first, again):
        assert torch.equal(found["teacher"], direct["teacher"])
        assert torch.equal(found["teacher_features"]["f"], direct["teacher_features"]["f"])
    d.store.flush()
    other_run, other_teacher = distiller(tmp_path)
    assert torch.equal(other_run(images(3))["teacher"], direct["teacher"])
    assert other_teacher.seen == 0


def test_entries_of_many_batches_are_one_file_that_holds_no_whole_batches(tmp_path):
    alone, many = distiller(tmp_path / "alone")[0], distiller(tmp_path / "many")[0]
    alone(images(1))
    for start in range(0, 32, 8):
        many(images(32)[start : start + 8])
    alone.store.flush()
    many.store.flush()
    (one,), (all_of_them,) = (list((tmp_path / name).glob("*/*")) for name in ("alone", "many"))
    assert all_of_them.stat().st_size == pytest.approx(32 * one.stat().st_size, rel=0.2)


@pytest.mark.parametrize("last", [True, False])
def test_float32_is_rounded_to_half_at_once_and_in_later_runs(tmp_path, last):
    teacher, image = Counting().eval(), images(3)
    image = image.to(memory_format=torch.channels_last) if last else image
    exact = Distiller(nn.Conv2d(1, 1, 1), teacher, {}, {"f": "layer"})(image)
    found = []
    for _ in range(2):
        d = Distiller(nn.Conv2d(1, 1, 1), teacher, {}, {"f": "layer"}, TeacherStore(tmp_path))
        found += [d(image), d(image)]
        d.store.flush()
    assert teacher.seen == 2 * 3  # once to compare with, once for the store
    for each in found:
        for value, expected in (
            (each["teacher"], exact["teacher"]),
            (each["teacher_features"]["f"], exact["teacher_features"]["f"]),
        ):
            assert value.dtype is torch.float32
            torch.testing.assert_close(value, expected, rtol=2**-11, atol=3e-8)
        assert torch.equal(each["teacher"], found[0]["teacher"])
        assert torch.equal(each["teacher_features"]["f"], found[0]["teacher_features"]["f"])


def test_values_that_half_precision_lacks_are_kept(tmp_path):
    store = TeacherStore(tmp_path)
    large = torch.tensor([[1e5, 1.0], [3.0, 2.0]])
    for _ in range(2):
        found, _features = store.answer("t", images(2), lambda _image: (large, {}))
        assert torch.equal(found, large)


def test_layout_of_features_is_kept(tmp_path):
    d = Distiller(nn.Conv2d(1, 1, 1), Counting(), {}, {"f": "layer"}, TeacherStore(tmp_path))
    d.to(memory_format=torch.channels_last)
    image = images(2).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        exact = Distiller(d.student, d.teachers["teacher"], {}, {"f": "layer"})(image)["teacher_features"]["f"]
        for _ in range(2):
            found = d(image)["teacher_features"]["f"]
            assert torch.equal(found, exact)
            assert found.is_contiguous(memory_format=torch.channels_last)


def test_runs_of_different_layouts_share_a_folder(tmp_path):
    store, image = TeacherStore(tmp_path), images(2)
    features = torch.randn(2, 3, 4, 5).bfloat16()
    for row, layout in enumerate((torch.contiguous_format, torch.channels_last)):
        given = {"f": features[row : row + 1].to(memory_format=layout)}
        store.answer("t", image[row : row + 1], lambda _image, given=given: (torch.zeros(1, 1), given))
    found = store.answer("t", image, lambda _image: 1 / 0)[1]["f"]
    assert torch.equal(found.bfloat16(), features)


def test_features_are_kept_at_the_size_that_the_terms_need(tmp_path):
    loss = DistillationLoss({"f": MultiScaleFusionLoss((1, 2))}, {"f": 1.0}, Projections({"f": (2, 4)}))
    student = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 1))
    shapes = {"f": (2, 2, 8, 8)}, {"f": (2, 4, 8, 8)}
    sizes = loss.feature_sizes(*shapes)
    assert sizes == {"f": (2, 2)}
    stored = Distiller(student, Counting(), {"f": "0"}, {"f": "layer"}, TeacherStore(tmp_path, half=False), None, sizes)
    plain = Distiller(student, Counting(), {"f": "0"}, {"f": "layer"})
    for _ in range(2):
        outputs = stored(images(2))
        assert outputs["teacher_features"]["f"].shape == (2, 4, 2, 2)
        torch.testing.assert_close(loss(outputs).total, loss(plain(images(2))).total)


@pytest.mark.parametrize(
    ("terms", "student", "teacher", "expected"),
    [
        ([FeatureLoss()], (8, 8), (16, 4), (8, 4)),  # the smaller map
        ([MultiScaleFusionLoss((1, 2, 4))], (16, 16), (32, 32), (4, 4)),
        ([MultiScaleFusionLoss((1, 2, 3))], (12, 12), (12, 12), (12, 12)),  # not one from the other
        ([MultiScaleFusionLoss((1, 4))], (10, 10), (10, 10), (10, 10)),  # windows that overlap
        ([MultiScaleFusionLoss((1, 4)), FeatureLoss()], (16, 16), (16, 16), (16, 16)),
        ([WithTeacher(MultiScaleFusionLoss((1, 4)), "a")], (16, 16), (16, 16), (4, 4)),
        ([nn.BCEWithLogitsLoss(), LogitKL(), AttentionLoss()], (8, 8), (16, 16), (8, 8)),
    ],
)
def test_sizes_that_terms_need(terms, student, teacher, expected):
    named = {str(number): term for number, term in enumerate(terms)}
    loss = DistillationLoss(named, dict.fromkeys(named, 1.0))
    assert loss.feature_sizes({"f": (2, 3, *student)}, {"f": (2, 3, *teacher)}) == {"f": expected}


def test_outputs_of_other_teachers_are_named(tmp_path, caplog):
    for seed in (0, 1):
        d = distiller(tmp_path, seed)[0]
        d(images(2))
        d.store.flush()
    assert "also holds 0.00 GB of other teachers" in caplog.text
    assert caplog.text.count("also holds") == 1


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
    d = Distiller(nn.Conv2d(1, 1, 1), teachers, store=TeacherStore(tmp_path, half=False))
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


def test_damaged_file_is_one_clear_error(tmp_path):
    d, _ = distiller(tmp_path)
    d(images(1))
    d.store.flush()
    (file,) = tmp_path.glob("*/*")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{file.name} can't be read"):
        distiller(tmp_path)[0](images(1))


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
