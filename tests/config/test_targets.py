"""Classes and functions that a config names, and that are not there."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from monai_kd.config import check_targets


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("BasicUNett", r"^the config .* a#1: MONAI has no class or function BasicUNett; .* Did you mean .*BasicUNet\b"),
        ("torch.optim.AdamV", r"a#1: torch.optim has no AdamV, for torch.optim.AdamV. Did you mean .*Adam\b"),
        ("monai_kd.losses.EdgeKLL", r"monai_kd.losses has no EdgeKLL, .* Did you mean EdgeKL\b"),
        ("monai_kd.lossess.EdgeKL", r"monai_kd has no lossess, for monai_kd.lossess.EdgeKL. Did you mean losses\?"),
        ("not_a_package.nets.Net", "there is no package not_a_package for not_a_package.nets.Net: install it"),
        ("broken_on_import.Net", "broken_on_import.Net can't be imported: no driver"),
        ("zzz", "MONAI has no class or function zzz; others need the path of their module.$"),
    ],
)
def test_what_is_not_there_is_named_with_its_id(tmp_path, monkeypatch, target, message):
    (tmp_path / "broken_on_import.py").write_text("raise RuntimeError('no driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message):
        check_targets({"a": [{"_target_": "RandFlipd"}, {"_target_": target}]})


def test_what_is_there_passes():
    targets = ["RandFlipd", "torch.optim.AdamW", "monai_kd.losses.DistillationLoss", "builtins.dict", "$object", "@a#0"]
    parser = ConfigParser({"a": [{"_target_": each} for each in targets], "b": {"c": {"d": {"_target_": "DiceLoss"}}}})
    check_targets(parser.get())
    check_targets({"off": {"_target_": "not_a_package.Net", "_disabled_": True}})


def test_all_are_named():
    with pytest.raises(ValueError, match=r"a: .*Nett.* b#c: .*Lossx"):
        check_targets({"a": {"_target_": "torch.nn.Nett"}, "b": {"c": {"_target_": "torch.nn.Lossx"}}})
