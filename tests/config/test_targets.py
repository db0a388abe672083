"""Classes and functions that a config names, and that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_kd.config import check_targets


def used(**items: object) -> dict[str, object]:
    """A config that refers to these items."""
    return {**items, "run": [f"$@{name}" for name in items]}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of modules of one's own; what was imported from it stays imported."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "broken_on_import.py").write_text("raise RuntimeError('no driver')\n")
    (folder / "made_package").mkdir()
    (folder / "made_package" / "__init__.py").touch()
    lines = ["nothing = None", "class Net:", "    class Inner: ...", "    @classmethod", "    def make(cls): ..."]
    (folder / "made_package" / "sub.py").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("BasicUNett", r"^the config .* a#1: MONAI has no class or function BasicUNett \(did you mean .*BasicUNet\b"),
        ("AdamW", r"no class or function AdamW; others need their module, as torch.optim.AdamW has"),
        ("torch.optim.AdamV", r"a#1: torch.optim has no AdamV, for torch.optim.AdamV \(did you mean .*Adam\b"),
        ("monai_kd.losses.EdgeKLL", r"monai_kd.losses has no EdgeKLL, .* \(did you mean EdgeKL\b"),
        # A module that nobody has imported.
        ("made_package.subb.Net", r"made_package has no subb, for made_package.subb.Net \(did you mean sub\?"),
        ("made_package.sub.Nett", r"made_package.sub has no Nett, .* \(did you mean Net\?"),
        ("made_package.sub.nothing", r"made_package.sub has no nothing, for"),
        ("not_a_package.nets.Net", "there is no package not_a_package, for not_a_package.nets.Net: install it"),
        ("UNet.Inner", "there is no package UNet, for UNet.Inner"),
        ("broken_on_import.Net", r"broken_on_import.Net can't be imported \(RuntimeError: no driver\)"),
        ("zzzz", "MONAI has no class or function zzzz; others need their module, as torch.optim.AdamW has.$"),
        (".nets.Net", "'.nets.Net' is no dotted path"),
        (" torch.optim.Adam", "' torch.optim.Adam' is no dotted path"),
        ("", "'' is no dotted path"),
    ],
)
def test_what_is_not_there_is_named_with_its_id(modules, monkeypatch, target, message):
    monkeypatch.syspath_prepend(modules)
    with pytest.raises(ValueError, match=message):
        check_targets(used(a=[{"_target_": "RandFlipd"}, {"_target_": target}]))


def test_what_is_there_passes(modules, monkeypatch):
    monkeypatch.syspath_prepend(modules)
    targets = ["RandFlipd", "torch.optim.AdamW", "monai_kd.losses.DistillationLoss", "builtins.dict", "$object", "@a#0"]
    targets += [f"made_package.sub.Net{inner}" for inner in ("", ".Inner", ".make")] + ["functools.partial"]
    parser = ConfigParser(used(a=[{"_target_": each} for each in targets], b={"c": {"d": {"_target_": "DiceLoss"}}}))
    check_targets(parser.get())


@pytest.mark.parametrize("disabled", [True, "true", "True ", "$@flag"])
def test_what_is_disabled_need_not_be_there(disabled):
    # MONAI builds what is within it all the same.
    inner = {"_target_": "not_a_package.Inner"}
    off = {"_target_": "not_a_package.Net", "_disabled_": disabled}
    check_targets(used(flag=True, off=off))
    with pytest.raises(ValueError, match="off#inner: there is no package"):
        check_targets(used(flag=True, off={**off, "inner": inner}))
    with pytest.raises(ValueError, match="on: there is no package"):
        check_targets(used(on={**off, "_disabled_": False}))


def test_what_nothing_refers_to_is_not_imported():
    check_targets({**used(a=1), "left_over": {"_target_": "not_a_package.Net"}})
    with pytest.raises(ValueError, match="left_over: there is no package"):
        check_targets({**used(a=1), "left_over": {"_target_": "not_a_package.Net"}, "b": "$kd.build('left_over#c')"})


def test_all_are_named():
    with pytest.raises(ValueError, match=r"a: .*Nett.* b#c: .*Lossx"):
        check_targets(used(a={"_target_": "torch.nn.Nett"}, b={"c": {"_target_": "torch.nn.Lossx"}}))
