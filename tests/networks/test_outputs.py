"""What of an output are logits: of outputs made by hand, and of MONAI's networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNetPlusPlus, DynUNet, SegResNetDS, ViT
from torch import nn

from monai_kd.engines import all_logits, main_logits
from monai_kd.networks.outputs import student_outputs

NET = nn.Identity()


def full(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, float(value))


@pytest.mark.parametrize(
    ("output", "axes", "expected"),
    [
        (full(1, 2, 1, 8, 8), 4, [1]),  # (B, C, H, W) of (B, C, H, W)
        (full(1, 2, 1, 8, 8, 8), 5, [1]),  # the same of volumes
        (full(1, 2, 3), 4, [1]),  # classes of images
        ([full(1, 2, 1, 8, 8)], 4, [1]),
        ((full(1, 2, 1, 8, 8), full(2, 2, 1, 4, 4), full(3, 2, 1, 2, 2)), 4, [1, 2, 3]),  # smaller and smaller heads
        (torch.stack([full(1, 2, 1, 8, 8), full(2, 2, 1, 8, 8)], dim=1), 4, [1, 2]),  # (B, heads, C, H, W)
        ((full(1, 2, 1, 8, 8), [full(2, 2, 5, 7)]), 4, [1]),  # logits, hidden states
        ((full(1, 2, 1, 8, 8), full(2, 2, 5, 7)), 4, [1]),  # logits, tokens
        ((full(1, 2, 1, 8, 8), full(2, 2, 32, 8, 8)), 4, [1]),  # logits, features of as many axes
        ((full(1, 2, 1, 8, 8), torch.tensor(0.0), None), 4, [1]),  # logits, a loss, nothing
        ({"aux": full(2, 2, 1, 8, 8), "out": full(1, 2, 1, 8, 8)}, 4, [1, 2]),  # torchvision's segmentations
    ],
)
def test_forms_of_outputs(output: Any, axes: int, expected: list[float]):
    found = all_logits(output, NET, axes)
    assert [float(each.mean()) for each in found] == expected
    assert torch.equal(main_logits(output, NET, axes), found[0])
    items = student_outputs(output, NET, axes)
    assert torch.equal(items["student"], found[0])
    assert len(items.get("student_heads", [None])) == len(expected)


@pytest.mark.parametrize(
    ("output", "described"),
    [
        ({"logits": full(1, 2, 1, 8, 8)}, "a dict"),
        ({"out": None}, r"a list of 1 \(a NoneType\)"),
        (None, "a NoneType"),
        ([], r"a list of 0 \(\)"),
        ((None, full(1, 2, 1, 8, 8)), r"a tuple of 2 \(a NoneType, a tensor \(2, 1, 8, 8\)\)"),
        ([["deep"]], r"a list of 1 \(a list of 1 \(a str\)\)"),
        (torch.tensor(0.0), r"a tensor \(\)"),
        (full(1, 2, 1, 1, 1, 8, 8), r"a tensor \(2, 1, 1, 1, 8, 8\)"),
    ],
)
def test_other_outputs_name_the_network(output: Any, described: str):
    with pytest.raises(TypeError, match=rf"^Conv2d returned {described} for a batch of 4 axes"):
        main_logits(output, nn.Conv2d(1, 1, 1), 4)


def unetpp(**kwargs) -> BasicUNetPlusPlus:
    torch.manual_seed(0)
    return BasicUNetPlusPlus(spatial_dims=2, in_channels=1, out_channels=2, features=(4, 4, 4, 4, 4, 4), **kwargs)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda net: net, id="bare"),
        pytest.param(lambda net: nn.DataParallel(net), id="parallel"),
        pytest.param(lambda net: torch.compile(net, backend="eager"), id="compiled"),
        pytest.param(lambda net: torch.compile(nn.DataParallel(net), backend="eager"), id="both"),
    ],
)
def test_the_deepest_head_of_unetpp_is_the_main_one(wrap):
    # That which the whole network contributes to; without deep supervision MONAI returns no other.
    net, image = unetpp(deep_supervision=True).eval(), torch.randn(1, 1, 32, 32)
    alone = unetpp().eval()
    alone.load_state_dict(net.state_dict(), strict=True)
    heads = all_logits(net(image), wrap(net), 4)
    assert len(heads) == 4
    assert torch.equal(heads[0], alone(image)[0])
    assert torch.equal(heads[0], net.final_conv_0_4(_input_of(net, net.final_conv_0_4, image)))


def _input_of(net: nn.Module, module: nn.Module, image: torch.Tensor) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    net(image)
    handle.remove()
    return seen[0]


def test_the_first_head_is_the_main_one_elsewhere():
    # In evaluation these two return the main logits alone; normalisation by instances makes both modes agree.
    torch.manual_seed(0)
    image = torch.randn(1, 1, 32, 32)
    three = {"kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3, "filters": [4] * 4}
    dyn = DynUNet(2, 1, 2, **three, deep_supervision=True, deep_supr_num=2)
    ds = SegResNetDS(spatial_dims=2, in_channels=1, out_channels=2, init_filters=8, blocks_down=(1, 1, 1), dsdepth=2)
    for net, heads in ((dyn, 3), (ds, 2)):
        found = all_logits(net.train()(image), net, 4)
        assert len(found) == heads
        if net is dyn:
            torch.testing.assert_close(found[0], main_logits(net.eval()(image), net, 4))
        assert found[0].shape == net.eval()(image).shape == (1, 2, 32, 32)


def test_hidden_states_of_a_transformer_are_left_aside():
    pytest.importorskip("einops")
    vit = ViT(1, 16, 8, hidden_size=12, mlp_dim=12, num_layers=2, num_heads=2, classification=True, spatial_dims=2)
    found = all_logits(vit(torch.randn(3, 1, 16, 16)), vit, 4)
    assert [each.shape for each in found] == [(3, 2)]


def test_classes_of_a_network_of_masks():
    masks, classes = full(1, 2, 1, 8, 8), full(2, 2, 4)
    found = student_outputs((masks, classes), NET, 4)
    assert found["student"] is masks
    assert found["student_classes"] is classes
    assert "student_heads" not in found
    # Not those of a classifier, nor where several might be meant.
    assert student_outputs((classes, classes), NET, 4).keys() == {"student", "student_heads"}
    assert student_outputs((masks, classes, classes), NET, 4).keys() == {"student"}
