"""Backbones: where their weights come from, and what is said when they do not come."""

from __future__ import annotations

import math
import time
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from monai_kd.networks import classifier_of, create_backbone

VIT = {"name": "vit_tiny_patch16_224", "img_size": 32}


def vit_weights(**changes) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: torch.randn_like(w) for name, w in create_backbone(**(VIT | changes)).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "kwargs", "size", "features"),
    [
        ("vit_tiny_patch16_224", {"img_size": 32}, 32, 192),  # (2, 3, 32, 32) to (2, 192)
        ("efficientnet_b0", {}, 32, 1280),  # (2, 3, 32, 32) to (2, 1280)
    ],
)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_shapes(name, kwargs, size, features, num_classes):
    net = create_backbone(name, num_classes=num_classes, **kwargs).eval()
    assert net(torch.zeros(2, 3, size, size)).shape == (2, num_classes or features)
    assert net.num_features == features


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_local_file_gives_those_very_weights(tmp_path, suffix):
    weights, path = vit_weights(), tmp_path / f"vit{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    found = create_backbone(**VIT, pretrained=str(path)).state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_file_with_a_classifier_serves_without_and_with_another(tmp_path):
    weights = vit_weights(num_classes=1000)
    save_file(weights, tmp_path / "vit.safetensors")
    for num_classes in (0, 3):
        found = create_backbone(**VIT, num_classes=num_classes, pretrained=tmp_path / "vit.safetensors").state_dict()
        body = [name for name in found if not name.startswith("head.")]
        assert len(body) > 100
        assert all(torch.equal(found[name], weights[name]) for name in body)


# (name, its classifier, arguments); the last two only torchvision has
CLASSIFIERS = [
    ("vit_tiny_patch16_224", "head", {"img_size": 32}),
    ("test_efficientnet", "classifier", {}),
    ("squeezenet1_1", "classifier.1", {}),
    ("shufflenet_v2_x0_5", "fc", {}),
]


@pytest.mark.parametrize(("name", "classifier", "kwargs"), CLASSIFIERS)
def test_classifier_of_a_file_is_kept_when_it_has_as_many_classes(name, classifier, kwargs, tmp_path, caplog):
    torch.manual_seed(0)
    source = create_backbone(name, num_classes=3, **kwargs)
    assert classifier_of(source) is source.get_submodule(classifier)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    found = create_backbone(name, tmp_path / "w.pth", num_classes=3, **kwargs)
    assert found.state_dict().keys() == source.state_dict().keys()
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in found.state_dict().items())
    assert "random weights" not in caplog.text
    with torch.no_grad():
        image = torch.randn(2, 3, 32, 32)
        assert torch.equal(found.eval()(image), source.eval()(image))


@pytest.mark.parametrize(("name", "classifier", "kwargs"), CLASSIFIERS)
@pytest.mark.parametrize("has", [True, False])
def test_classifier_starts_afresh_when_it_has_not(name, classifier, kwargs, has, tmp_path, caplog):
    source = create_backbone(name, num_classes=5, **kwargs).state_dict()
    given = {key: value for key, value in source.items() if has or not key.startswith(f"{classifier}.")}
    torch.save(given, tmp_path / "w.pth")
    network = create_backbone(name, tmp_path / "w.pth", num_classes=3, **kwargs)
    found = network.state_dict()
    own = {f"{classifier}.weight", f"{classifier}.bias"}
    assert all(torch.equal(found[key], source[key]) for key in found.keys() - own)
    assert len(found[f"{classifier}.weight"]) == 3
    assert not torch.equal(found[f"{classifier}.weight"], source[f"{classifier}.weight"][:3])
    said = "has a classifier of 5 classes" if has else "has no classifier"
    assert f"the weights file of '{name}' {said}: the classifier of 3 classes starts from random weights" in caplog.text


def test_torchvision_always_classifies():
    with pytest.raises(ValueError, match="'squeezenet1_1' is a model of torchvision, which always classifies"):
        create_backbone("squeezenet1_1")


def test_incomplete_file_of_torchvision_is_refused(tmp_path):
    state = create_backbone("squeezenet1_1", num_classes=3).state_dict()
    torch.save({key: value for key, value in state.items() if "features.3" not in key}, tmp_path / "w.pth")
    with pytest.raises(RuntimeError, match=r"do not fit 'squeezenet1_1'(?s:.*)features\.3"):
        create_backbone("squeezenet1_1", tmp_path / "w.pth", num_classes=3)


def test_no_single_classifier():
    with pytest.raises(ValueError, match="has no single linear classifier, but Identity"):
        classifier_of(create_backbone("test_resnet"))
    with pytest.raises(ValueError, match="Sequential has no single linear classifier, but LayerNorm"):
        classifier_of(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)))


def test_image_size_is_for_those_that_need_it():
    assert create_backbone("vit_tiny_patch16_224", image_size=32).pos_embed.shape == (1, 5, 192)
    assert create_backbone("test_resnet", num_classes=2, image_size=48)(torch.zeros(2, 3, 40, 40)).shape == (2, 2)


def test_file_for_another_image_size_is_interpolated(tmp_path):
    weights = vit_weights(img_size=64)
    save_file(weights, tmp_path / "vit.safetensors")
    found = create_backbone(**VIT, pretrained=tmp_path / "vit.safetensors").state_dict()
    assert found["pos_embed"].shape == (1, 5, 192)  # 2 × 2 patches and the class token, from 4 × 4
    assert torch.equal(found["blocks.3.mlp.fc1.weight"], weights["blocks.3.mlp.fc1.weight"])


@pytest.mark.parametrize("num_classes", [0, 3, 1000])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"foo": torch.zeros(3)}, id="nothing-of-it"),
        pytest.param({"module." + k: v for k, v in vit_weights().items() if "blocks.7" not in k}, id="a-part"),
    ],
)
def test_file_of_another_network_is_refused(tmp_path, num_classes, content):
    # timm would keep random weights for what the file lacks, and go on.
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match=r"weights in .*other\.pth do not fit 'vit_tiny_patch16_224': .*\w"):
        create_backbone(**VIT, num_classes=num_classes, pretrained=tmp_path / "other.pth")


def test_wrong_shape_is_refused(tmp_path):
    weights = vit_weights()
    weights["norm.weight"] = torch.zeros(5)
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(RuntimeError, match=r"do not fit 'vit_tiny_patch16_224'(?s:.*)norm\.weight"):
        create_backbone(**VIT, pretrained=tmp_path / "vit.pth")


def test_missing_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"pretrained weights for 'vit_tiny_patch16_224': there is no file .*absent"
    ):
        create_backbone(**VIT, pretrained=tmp_path / "absent.pth")


def test_unknown_name():
    with pytest.raises(ValueError, match=r"neither timm nor torchvision has a model 'vit_huge'; models .*: .*vit_"):
        create_backbone("vit_huge")


def test_offline_names_both_ways_out(monkeypatch, tmp_path):
    # The variables are read when the hub is imported, hence the constants.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"could not be downloaded.*local weights file.*`pretrained` to\s+false"):
        create_backbone(**VIT, pretrained=True)
    assert time.monotonic() - began < 10


def test_what_is_wrong_with_a_model_is_no_matter_of_its_download(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'drop_rat'"):
        create_backbone(**VIT, pretrained=True, drop_rat=0.1)
    with pytest.raises(ValueError, match=r"timm publishes no weights of 'efficientnet_b8': give the path of a local"):
        create_backbone("efficientnet_b8", pretrained=True)


def test_torchvision_offline_names_both_ways_out(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(RuntimeError, match=r"weights of 'squeezenet1_1' could not be downloaded \(URLError\)"):
        create_backbone("squeezenet1_1", pretrained=True, num_classes=3)


def test_no_weights_may_be_said_by_null():
    assert create_backbone("test_resnet", None, num_classes=3).num_classes == 3


def test_auxiliary_classifiers_are_refused():
    with pytest.raises(ValueError, match="'googlenet' has auxiliary classifiers"):
        create_backbone("googlenet", num_classes=3)


def test_classifier_without_a_bias_starts_afresh(tmp_path):
    source = create_backbone("maxvit_t", num_classes=5).state_dict()
    torch.save(source, tmp_path / "w.pth")
    found = create_backbone("maxvit_t", tmp_path / "w.pth", num_classes=3).state_dict()
    assert found["classifier.5.weight"].shape == (3, 512)
    assert torch.equal(found["stem.0.0.weight"], source["stem.0.0.weight"])


@pytest.mark.parametrize(
    # the last two only torchvision has
    "name",
    ["efficientnet_b0", "vit_tiny_patch16_224", "resnet10t", "efficientnet_v2_s", "shufflenet_v2_x0_5"],
)
def test_a_new_classifier_begins_by_guessing(name):
    # In training mode: with few classes timm's own EfficientNet begins with a loss of 3 to 7 there.
    torch.manual_seed(0)
    network = create_backbone(name, num_classes=3, image_size=64).train()
    loss = torch.nn.functional.cross_entropy(network(torch.randn(8, 3, 64, 64)), torch.arange(8) % 3)
    assert loss.item() == pytest.approx(math.log(3), abs=0.1)
