"""A classifier that is asked about the slices of a segmentation: its answers, its file, and its part in the rule."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from students import BACKBONE, CLASS_NAMES, SIZE
from torch import nn

from monai_kd.bundle.second_reader import second_reader
from monai_kd.config import UntrustedNetwork, build_network
from monai_kd.export.onnx_file import write_onnx
from monai_kd.inference import JudgePresenced
from monai_kd.inference.second_reader import SecondReader
from monai_kd.io.checksum import file_sha256
from monai_kd.metrics import joined_presence
from monai_kd.metrics.presence import log_odds

NAMES = ["no tumour", *CLASS_NAMES]
IMAGES = {"in_channels": 3, "image_size": 2 * SIZE, "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.4, 0.2]}
OWN = {"image_size": SIZE, "in_channels": 3, "mean": [0.485] * 3, "std": [0.229] * 3, "mirror": [1]}


def network() -> nn.Module:
    torch.manual_seed(0)
    made = build_network({**BACKBONE, "num_classes": len(NAMES)}).eval()
    with torch.no_grad():
        made.classifier.weight.mul_(40)
    return made


def settings(**values) -> dict:
    return {**OWN, "network_def": {**BACKBONE, "num_classes": len(NAMES)}, "class_names": NAMES, **values}


def slices(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 2 * SIZE, 2 * SIZE, generator=torch.Generator().manual_seed(1))


def test_probability_of_what_the_classifier_would_have_got():
    net, images = network(), slices()
    mean, std = (torch.tensor(IMAGES[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    plain = nn.functional.interpolate(images * std + mean, scale_factor=0.5, mode="bilinear")
    own = (plain - 0.485) / 0.229
    with torch.no_grad():
        logits = (net(own) + net(own.flip(3))) / 2
    expected = 1 - logits.softmax(dim=1)[:, 0].numpy()
    found = SecondReader(net, settings(), IMAGES)(images)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found) > 0.001


def test_a_grey_channel_is_repeated():
    grey = slices()[:, :1]
    of = {**IMAGES, "in_channels": 1, "mean": None, "std": None}
    found = SecondReader(network(), settings(), of)(grey)
    again = SecondReader(network(), settings(), {**of, "in_channels": 3})(grey.repeat(1, 3, 1, 1))
    np.testing.assert_allclose(found, again, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "of", "said"),
    [
        ({"class_names": CLASS_NAMES}, {}, "no class 'no tumour': take one that was trained with"),
        ({"in_channels": 1}, {}, "it takes 1 channels, and the slices have 3"),
    ],
)
def test_classifiers_that_do_not_fit(values, of, said):
    with pytest.raises(ValueError, match=said):
        SecondReader(network(), settings(**values), {**IMAGES, **of})


def test_the_file_gives_the_same_answers(tmp_path):
    reader = SecondReader(network(), settings(), IMAGES)
    reader.save(tmp_path / "classifier.safetensors")
    assert reader.sha256 == file_sha256(tmp_path / "classifier.safetensors")
    again = SecondReader.load(tmp_path / "classifier.safetensors", IMAGES)
    np.testing.assert_array_equal(again(slices()), reader(slices()))
    assert again.sha256 == reader.sha256


def test_exported_it_gives_the_log_odds_of_the_same_answers(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
    reader = SecondReader(network(), settings(), IMAGES)
    write_onnx(reader.log_odds(), (3, 2 * SIZE, 2 * SIZE), tmp_path / "classifier.onnx")
    session = runtime.InferenceSession(str(tmp_path / "classifier.onnx"), providers=["CPUExecutionProvider"])
    found = np.concatenate([session.run(None, {"image": each.numpy()[None]})[0][:, 0] for each in slices()])
    np.testing.assert_allclose(found, log_odds(reader(slices())), atol=1e-3)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "classifier.safetensors"
    SecondReader(network(), settings(), IMAGES).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="is no classifier that an evaluation wrote"):
        SecondReader.load(path, IMAGES)
    for content in ({"settings": "{"}, {"settings": json.dumps({"class_names": NAMES})}, {}, None):
        save_file({"x": torch.zeros(1)}, path, content)
        with pytest.raises(ValueError, match="is no classifier that an evaluation wrote"):
            SecondReader.load(path, IMAGES)
    other = settings(network_def={"_target_": "os.system", "command": "true"})
    save_file({"x": torch.zeros(1)}, path, {"settings": json.dumps(other)})
    with pytest.raises(UntrustedNetwork):
        SecondReader.load(path, IMAGES)


def test_log_odds_of_both_decide():
    class Says(SecondReader):
        def __init__(self) -> None:
            """Without a network."""

        def __call__(self, images: torch.Tensor) -> np.ndarray:
            assert images.shape == (2, 3, 4, 4)
            return np.array([0.2, 0.98])

    probability = torch.zeros(1, 4, 4, 2)
    probability[0, 0, 0] = torch.tensor([0.9, 0.5])
    data = {"pred": probability > 0.4, "probability": probability, "image": torch.zeros(3, 4, 4, 2)}
    rule = JudgePresenced("pred", operating_point={"score": "max", "threshold": 0.7}, reader=Says())
    out = rule(data)
    # Odds of 9 · 1/4 and of 1 · 49: their roots are 1.5 and 7.
    assert out["examination"] == {"presence_score": 0.875, "presence_threshold": 0.7}
    assert out["pred"].sum(dim=(0, 1, 2)).tolist() == [0, 1]
    assert str(rule).startswith("a slice is marked only if its presence score (max and a classifier)")


def test_scores_of_0_and_1_and_order():
    scores = np.array([0.0, 1.0, 0.3, 0.6])
    assert np.isfinite(joined_presence(scores, 1 - scores)).all()
    joined = joined_presence(scores, np.full(4, 0.1))
    assert (np.argsort(joined) == np.argsort(scores)).all()
    np.testing.assert_allclose(joined_presence(scores[2:], scores[2:]), scores[2:])


def test_what_the_operating_point_was_chosen_with_must_be_there(tmp_path):
    model, point = tmp_path / "model.pt", {"score": "max", "threshold": 0.5}
    model.touch()
    assert second_reader(model, {"operating_point": None}) is None
    assert second_reader(model, {"operating_point": point}) is None
    with pytest.raises(FileNotFoundError, match=r"there is no .*classifier\.safetensors: restore it, or choose"):
        second_reader(model, {"operating_point": {**point, "classifier": "0" * 64}})
    # Also where the settings alone are known, as to programs that get the network from elsewhere.
    with pytest.raises(FileNotFoundError, match="there is no"):
        second_reader("elsewhere/model.pt", {"operating_point": {**point, "classifier": "0" * 64}})
    reader = SecondReader(network(), settings(), IMAGES)
    reader.save(tmp_path / "classifier.safetensors")
    with pytest.raises(ValueError, match="is another classifier than the one that the operating point"):
        second_reader(model, {**IMAGES, "operating_point": {**point, "classifier": "0" * 64}})
    found = second_reader(model, {**IMAGES, "operating_point": {**point, "classifier": reader.sha256}})
    np.testing.assert_array_equal(found(slices()), reader(slices()))
