"""Files of weights: whole or not at all, and never half a fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_kd.io.atomic import atomic_write
from monai_kd.io.checkpoints import load_weights, read_checkpoint, save_checkpoint


def network(width: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, width, 1), nn.BatchNorm2d(width))


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("the disk is full")


class Trap:
    """Would run code when unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_round_trip(tmp_path):
    save_checkpoint(network(seed=1).state_dict(), tmp_path / "new" / "model.pt")
    loaded = load_weights(network(seed=2), tmp_path / "new" / "model.pt")
    assert all(torch.equal(v, network(seed=1).state_dict()[k]) for k, v in loaded.state_dict().items())


def test_failure_while_saving_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint({"a": torch.ones(2)}, path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="the disk is full"):
        save_checkpoint({"a": torch.zeros(1000), "b": Unpicklable()}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]  # no half-written file beside it


def test_failure_while_saving_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(RuntimeError, match="the disk is full"):
        save_checkpoint({"b": Unpicklable()}, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # or renaming would copy
        assert temporary.suffix == ".csv"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_interruption_is_an_exception_too(tmp_path):
    def interrupted() -> None:
        with atomic_write(tmp_path / "a.csv") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "0.bias"}, r"keys 1 missing \(0\.bias\)\."),
        (lambda s: s | {"extra": torch.zeros(1)}, r"keys 1 unknown \(extra\)\."),
        (lambda s: s | {"0.bias": torch.zeros(5)}, r"keys 1 of another shape \(0\.bias \(5,\) for \(3,\)\)\."),
        (
            lambda s: {f"student.{k}": v for k, v in s.items()},
            r"7 missing \(.*, …\); 7 unknown \(student\.0\.weight, .*, …\)",
        ),
        (
            lambda s: {f"module.{k}": v for k, v in s.items()},
            r"7 unknown .* within another one, .* each key begins with 'module\.'\.",
        ),
        (lambda s: {**{f"module.{k}": v for k, v in s.items()}, "extra": torch.zeros(1)}, r"Give the checkpoint of"),
        (lambda s: {}, r"keys 7 missing"),
        (lambda s: {**s, 3: torch.zeros(1)}, r"keys 1 unknown \(3\)"),
    ],
)
def test_state_dict_of_another_network(tmp_path, change, message):
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    torch.save(change(dict(network(seed=1).state_dict())), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt does not fit Sequential: .*{message}"):
        load_weights(net, tmp_path / "model.pt")
    # Nothing of it was taken over.
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(
            {"network": network().state_dict(), "epoch": 3}, r".*model\.pt, not last\.ckpt", id="training-checkpoint"
        ),
        pytest.param([torch.zeros(1)], ".*but a list", id="list"),
        pytest.param(torch.zeros(1), ".*but a Tensor", id="tensor"),
    ],
)
def test_no_state_dict(tmp_path, content, said):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=rf"last\.ckpt is no bare state dict {said}"):
        load_weights(network(), tmp_path / "last.ckpt")


@pytest.mark.parametrize("content", [network(), {"a": Trap()}])
def test_pickled_objects_are_refused_unread(tmp_path, capsys, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt can't be read as a checkpoint of tensors") as caught:
        load_weights(network(), tmp_path / "model.pt")
    # torch's own message advises it, and that would run the file's code.
    assert "weights_only" not in str(caught.value)
    assert "unpickled" not in capsys.readouterr().out


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "model.pt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match=r"model\.pt can't be read as a checkpoint of tensors"):
        read_checkpoint(tmp_path / "model.pt")


def test_half_a_file(tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="can't be read as a checkpoint"):
        read_checkpoint(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*model\.pt; train first"):
        load_weights(network(), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            lambda state: {"state_dict": state, "hparams": {"lr": 1}},
            "keys are state_dict, hparams, of which state_dict",
        ),
        (lambda state: {"network": state, "epoch": 3}, "that is model.pt, not last.ckpt"),
        (lambda state: [state], "but a list"),
    ],
)
def test_weights_within_something_else_are_named(content, said, tmp_path):
    network = nn.Linear(1, 1)
    torch.save(content(network.state_dict()), tmp_path / "wrapped.pt")
    with pytest.raises(ValueError, match=said):
        load_weights(network, tmp_path / "wrapped.pt")
