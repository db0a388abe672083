"""Networks as plain values: what a config resolves to, what a file may name, and what is built."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet
from torch import nn

from monai_kd.config import UntrustedNetwork, build_network, definition_of, without_pretrained
from monai_kd.networks import Ensemble, HybridUNet, LateFusionClassifier

UNET = {
    **{"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1},
    **{"features": [4, 4, 4, 4, 4, 4], "act": ["relu", {"inplace": True}], "norm": "batch"},
}
BACKBONES = [{"name": "test_resnet", "image_size": 32}, {"name": "test_vit", "image_size": 32}]
LATE = {"_target_": "monai_kd.networks.LateFusionClassifier", "backbones": BACKBONES, "num_classes": 3}
ENSEMBLE: dict[str, Any] = {"_target_": "monai_kd.networks.Ensemble", "activation": "sigmoid"}
CODE = "$__import__('pathlib').Path('marker').touch()"


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is run leaves a file."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "marker").exists()


def defined(config: dict[str, Any], id: str = "network_def") -> dict[str, Any]:
    parser = ConfigParser(config)
    return definition_of(parser[id], parser.get_parsed_content, id)


class TestDefinitionOf:
    def test_references_and_expressions_are_resolved_and_nothing_is_built(self):
        config = {
            "widths": {"demo": [4, 4, 4, 4, 4, 4]},
            "size": "$2 * 16",
            "names": ["a", "b"],
            "network_def": {
                "_target_": "monai.networks.nets.NoSuchNetwork",
                "features": "$@widths['demo']",
                "img_size": ["@size", "$@size // 2"],
                "act": ["relu", {"inplace": True}],
                "nested": {"deep": [{"size": "@size"}], "none": None},
                "classes": "$len(@names)",
                "norm": "batch",
            },
        }
        assert defined(config) == {
            "_target_": "monai.networks.nets.NoSuchNetwork",
            "features": [4, 4, 4, 4, 4, 4],
            "img_size": [32, 16],
            "act": ["relu", {"inplace": True}],
            "nested": {"deep": [{"size": 32}], "none": None},
            "classes": 2,
            "norm": "batch",
        }

    def test_the_definition_is_json_and_gives_the_same_network(self):
        config = {"features": (4, 4, 4, 4, 4, 4), "network_def": {**UNET, "features": "@features"}}
        definition = defined(config)
        assert json.loads(json.dumps(definition)) == definition == UNET
        wanted = ConfigParser(config).get_parsed_content("network_def").state_dict()
        found = build_network(definition).state_dict()
        assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in wanted.items()}

    def test_a_reference_to_a_mapping_is_resolved_whole(self):
        config = {"backbones": BACKBONES, "network_def": {**LATE, "backbones": "@backbones"}}
        assert defined(config) == LATE

    @pytest.mark.parametrize(
        ("argument", "kind"),
        [
            ("$object()", "object"),
            ("$[object()]", "object"),
            ("${'a': {1}}", "set"),
            ("$len", "builtin"),
            ("@t", "Tensor"),
        ],
    )
    def test_what_no_file_can_keep_is_refused_with_its_id(self, argument, kind):
        config = {"imports": ["$import torch"], "t": "$torch.zeros(1)", "network_def": {**UNET, "norm": argument}}
        with pytest.raises(
            ValueError, match=rf"network_def#norm is a {kind}.*: arguments of a network must be numbers"
        ):
            defined(config)

    @pytest.mark.parametrize("raw", [None, 3, "@network", [], {"features": [4]}])
    def test_what_is_no_component_is_refused(self, raw):
        with pytest.raises(ValueError, match="net must be a component with '_target_', got"):
            definition_of(raw, lambda id: id, "net")


class TestBuildNetwork:
    def test_short_names_and_dotted_paths(self):
        for target in ("BasicUNet", "monai.networks.nets.BasicUNet", "monai.networks.nets.basic_unet.BasicUNet"):
            for trusted in (True, False):
                assert isinstance(build_network({**UNET, "_target_": target}, trusted), BasicUNet)
        late = build_network(LATE, trusted=False)
        assert isinstance(late, LateFusionClassifier)
        assert len(late.backbones) == 2

    @pytest.mark.parametrize("trusted", [True, False])
    def test_networks_within_a_network(self, trusted):
        smaller = {**UNET, "features": [2, 2, 2, 2, 2, 2]}
        inner = {**ENSEMBLE, "networks": [smaller, UNET]}
        network = build_network({**ENSEMBLE, "networks": [UNET, inner]}, trusted)
        assert isinstance(network, Ensemble)
        widths = [
            each.shape[0] for name, each in network.named_parameters() if name.endswith("conv_0.conv_0.conv.weight")
        ]
        assert widths == [4, 2, 4]

    def test_functions_of_this_package_build_networks(self):
        definition = {"_target_": "monai_kd.networks.create_backbone", "name": "test_efficientnet", "num_classes": 3}
        assert build_network({**definition, "image_size": 32}, trusted=False)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)

    def test_a_config_may_name_any_network_and_nest_components(self):
        conv = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}
        assert isinstance(build_network(conv), nn.Conv2d)
        nested = {"_target_": "torch.nn.ModuleList", "modules": [conv, {"_target_": "torch.nn.Identity"}]}
        assert [type(each) for each in build_network(nested)] == [nn.Conv2d, nn.Identity]

    def test_the_definition_is_left_as_it_is(self):
        definition = {**LATE, "pretrained": True, "freeze": True}
        before = copy.deepcopy(definition)
        build_network(definition, trusted=False)
        assert definition == before

    @pytest.mark.parametrize("text", [CODE, "@device", "%device", "a#b", "$1", "BasicUNet"])
    def test_arguments_of_a_file_stay_text(self, text):
        with pytest.raises(ValueError) as caught:
            build_network({**LATE, "backbones": [text]}, trusted=False)
        assert text in str(caught.value)

    @pytest.mark.parametrize("trusted", [True, False])
    @pytest.mark.parametrize(
        "value", [None, "BasicUNet", [], {}, {"_target_": 3}, {"_target_": ["BasicUNet"]}, {"features": 1}]
    )
    def test_what_is_no_definition(self, value, trusted):
        with pytest.raises(ValueError, match="a network must be defined by a mapping with '_target_', got"):
            build_network(value, trusted)

    @pytest.mark.parametrize(
        ("definition", "message"),
        [
            ({"_target_": "NoSuchNet"}, "the network NoSuchNet can't be built"),
            (
                {**UNET, "channels": 3},
                r"the network BasicUNet can't be built: .*unexpected keyword argument 'channels'",
            ),
            ({**LATE, "num_classes": 1}, "num_classes must be 2 or more, got 1"),
            ({**LATE, "pretrained": "absent.pth"}, "absent.pth"),
            ({"_target_": "pathlib.Path"}, "pathlib.Path is no network, but a PosixPath"),
        ],
    )
    def test_one_clear_error(self, definition, message):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            build_network(definition)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, RuntimeError])
    def test_errors_of_a_network_are_its_own_and_end(self, monkeypatch, kind):
        def fail(self: Any, **arguments: Any) -> None:
            raise kind("our sentence")

        monkeypatch.setattr(LateFusionClassifier, "__init__", fail)
        with pytest.raises(kind, match=r"^our sentence$") as caught:
            build_network(LATE)
        # Who follows the chain of causes gets to its end.
        assert caught.value.__cause__ is None


# What a settings.json of a stranger might name. None of it is called, nor is its module imported.
HOSTILE: list[dict[str, Any]] = [
    {"_target_": "os.system", "command": "touch marker"},
    {"_target_": "builtins.eval", "source": CODE[1:]},
    {"_target_": "builtins.exec", "object": CODE[1:]},
    {"_target_": "eval", "source": CODE[1:]},
    {"_target_": "pathlib.Path.touch", "self": "marker"},
    {"_target_": "subprocess.run", "args": ["touch", "marker"]},
    {"_target_": "torch.hub.load", "repo_or_dir": "stranger/repo", "model": "net"},
    {"_target_": "torch.load", "f": "model.pt", "weights_only": False},
    {"_target_": "torch.nn.Identity"},
    {"_target_": "monai.bundle.run", "config_file": "train.json"},
    {"_target_": "monai.bundle.scripts.run", "config_file": "train.json"},
    {"_target_": "monai.bundle.download", "name": "x"},
    # Reached by way of a module that is trusted.
    {"_target_": "monai.networks.nets.torch.hub.load", "repo_or_dir": "stranger/repo", "model": "net"},
    {"_target_": "monai.networks.nets.basic_unet.torch.load", "f": "model.pt"},
    {"_target_": "monai.networks.nets.basic_unet.nn.Identity"},
    {"_target_": "monai.networks.nets.basic_unet.Sequence"},
    {"_target_": "monai_kd.networks.backbone.timm.create_model", "model_name": "resnet18"},
    {"_target_": "monai_kd.networks.backbone.Path", "x": "marker"},
    {"_target_": "monai_kd.networks"},
    {"_target_": "monai_kd.networks."},
    {"_target_": "monai_kd.networks.NoSuchNet"},
    {"_target_": "monai_kd.networks_of_a_stranger.Net"},
    {"_target_": "monai.networks.netsx.Net"},
    {"_target_": "monai.networks.blocks.Convolution"},
    # Functions that load weights from where they are told to, and networks that always do.
    {"_target_": "monai.networks.nets.hovernet._remap_preact_resnet_model", "model_url": "http://example.com/w.pth"},
    {"_target_": "monai.networks.nets.efficientnet._load_state_dict", "model": "x", "arch": "efficientnet-b0"},
    {"_target_": "monai.networks.nets.get_pretrained_resnet_medicalnet", "resnet_depth": 10},
    {"_target_": "monai.networks.nets.resnet.get_pretrained_resnet_medicalnet", "resnet_depth": 10},
    {"_target_": "TorchVisionFCModel", "model_name": "get_model", "num_classes": 3, "name": "fcn_resnet50"},
    {"_target_": "Transchex", "in_channels": 3, "path_or_repo_id": "stranger/repo"},
    {"_target_": "monai_kd.networks.backbone._timm", "name": "hf-hub:stranger/repo", "num_classes": 3},
    {"_target_": "monai_kd.networks.backbone.published", "name": "resnet18"},
    {"_target_": "monai_kd.networks.outputs.DataParallel", "module": UNET},
    {"_target_": "monai.networks.nets.autoencoderkl.Rearrange", "pattern": "b c -> c b"},
    {"_target_": "monai.networks.utils.eval_mode"},
    {"_target_": "DiceLoss"},
    {"_target_": "LoadImage"},
    {"_target_": " BasicUNet"},
    {"_target_": "BasicUNet\n"},
    {"_target_": "$BasicUNet"},
    {"_target_": ""},
    {"_target_": "."},
    # Components and what MONAI takes for their settings, inside of a network that is trusted.
    {**UNET, "norm": {"_target_": "os.system", "command": "touch marker"}},
    {**UNET, "act": ["relu", {"inplace": {"_target_": "builtins.eval", "source": CODE[1:]}}]},
    {**LATE, "backbones": [{"name": "test_resnet", "extra": [[{"_target_": "os.system"}]]}]},
    {**UNET, "_mode_": "debug"},
    {**UNET, "_mode_": "callable"},
    {**UNET, "_disabled_": True},
    {**UNET, "_requires_": CODE},
    {**UNET, "_desc_": "x"},
    {**UNET, "norm": {"_anything": 1}},
    {**ENSEMBLE, "networks": [UNET, {"_target_": "os.system", "command": "touch marker"}]},
    {**ENSEMBLE, "networks": [UNET, {"_target_": "torch.nn.Identity"}]},
    {**ENSEMBLE, "networks": [UNET, {**UNET, "norm": {"_target_": "builtins.eval", "source": CODE[1:]}}]},
    {**ENSEMBLE, "networks": [{**UNET, "_requires_": CODE}]},
    {**ENSEMBLE, "networks": [{**UNET, "_mode_": "callable"}]},
    {**ENSEMBLE, "networks": [{**ENSEMBLE, "networks": [{"_target_": 3}]}]},
    {**ENSEMBLE, "networks": [{"_target_": ["BasicUNet"]}]},
]


class TestStrangers:
    @pytest.mark.parametrize("definition", HOSTILE, ids=lambda definition: repr(definition["_target_"]))
    def test_files_may_name_networks_alone(self, definition):
        with pytest.raises(UntrustedNetwork, match="is not run because a file names it"):
            build_network(definition, trusted=False)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from([*"abn._$@#%/ ", "monai.networks.nets.", "BasicUNet"]), max_size=12).map("".join))
    def test_no_text_gets_another_target_called(self, text):
        assume(text not in ("BasicUNet", "monai.networks.nets.BasicUNet"))
        with pytest.raises(UntrustedNetwork):
            build_network({"_target_": text}, trusted=False)


def test_functions_that_the_package_offers_build_networks():
    """Also those that are no more than a name for another one."""
    found = build_network(
        {"_target_": "MedNeXtS", "spatial_dims": 2, "in_channels": 1, "out_channels": 1}, trusted=False
    )
    assert type(found).__name__ == "MedNeXt"


def test_networks_within_networks_have_an_end():
    deep: dict[str, Any] = UNET
    for _ in range(400):
        deep = {**ENSEMBLE, "networks": [deep]}
    with pytest.raises(UntrustedNetwork, match="too many networks within networks"):
        build_network(deep, trusted=False)


class TestWithoutPretrained:
    @pytest.mark.parametrize("value", [True, False, "vit.pth", None, {"nested": 1}])
    def test_pretrained_and_freeze_are_dropped_at_any_depth(self, value):
        deep = {"a": [{"b": {"pretrained": value, "freeze": value, "name": "x"}}, [{"freeze": value}], 3, "pretrained"]}
        assert without_pretrained({"_target_": "Net", "pretrained": value, **deep}) == {
            **{"_target_": "Net", "pretrained": False},
            "a": [{"b": {"pretrained": False, "freeze": False, "name": "x"}}, [{"freeze": False}], 3, "pretrained"],
        }

    def test_nothing_is_added(self):
        assert without_pretrained(LATE) == LATE
        assert without_pretrained({"_target_": "Net", "frozen": True}) == {"_target_": "Net", "frozen": True}

    def test_nothing_is_downloaded_though_the_class_would_by_default(self, monkeypatch):
        def download(*args: Any, **kwargs: Any) -> None:
            pytest.fail("asks the internet for weights")

        monkeypatch.setattr("monai.networks.nets.efficientnet.model_zoo.load_url", download)
        monkeypatch.setattr("monai.networks.nets.hovernet.download_url", download)
        efficientnet = {"_target_": "EfficientNetBN", "model_name": "efficientnet-b0", "num_classes": 3}
        build_network(efficientnet, trusted=False)
        build_network({**ENSEMBLE, "networks": [efficientnet], "activation": "softmax"}, trusted=False)
        hovernet = {
            "_target_": "HoVerNet",
            "pretrained_url": "http://example.com/weights",
            "adapt_standard_resnet": True,
        }
        build_network(hovernet, trusted=False)

    def test_no_file_is_opened_that_timm_would(self):
        backbone = {"_target_": "monai_kd.networks.create_backbone", "name": "test_resnet", "num_classes": 3}
        with pytest.raises(FileNotFoundError):
            build_network({**backbone, "checkpoint_path": "gone.pth"})
        build_network({**backbone, "checkpoint_path": "gone.pth"}, trusted=False)

    def test_files_of_training_are_not_needed_afterwards(self):
        backbones = [{**BACKBONES[0], "pretrained": "gone.pth", "freeze": True}, BACKBONES[1]]
        definition = {**LATE, "backbones": backbones, "pretrained": "also_gone.pth", "freeze": True}
        network = build_network(definition, trusted=False)
        assert all(parameter.requires_grad for parameter in network.parameters())
        network.train()
        assert network.backbones[0].training
        hybrid = {
            **{"_target_": "monai_kd.networks.HybridUNet", "features": [4] * 6, "pretrained": "gone.pth"},
            **{"vit_name": "test_vit", "vit_image_size": 32},
        }
        assert isinstance(build_network(hybrid, trusted=False), HybridUNet)
