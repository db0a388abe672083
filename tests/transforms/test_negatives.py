import numpy as np
import pytest
import torch
from heads import head, real_slices, tumour
from monai.data import MetaTensor

from monai_kd.data import load_fold
from monai_kd.transforms import RandRemoveTumourd, RemoveTumourd, operate_elsewhere, remove_tumour, slice_preprocessing
from monai_kd.transforms.cloning import dilate

NUMBERS = [54, 82, 100, 189, 252, 357, 407, 614, 746, 767, 841, 915, 1157, 1240, 1376, 1472, 1517, 1646, 2266, 2976]


def with_tumour(row: float = 0.68, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head, the same head with a bright tumour, and its mask."""
    healthy, mask = head().repeat(channels, 1, 1), tumour(row=row)
    return healthy, torch.where(mask > 0, 1.0, healthy), mask


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_tumour_in_one_half_is_replaced_by_the_other_half(seed, channels):
    healthy, image, mask = with_tumour(channels=channels)
    out, label = remove_tumour(image, mask, np.random.RandomState(seed))
    assert not label.any()
    assert label.shape == mask.shape
    # The head is symmetric: what was under the tumour is known.
    assert (out - healthy).abs()[:, mask[0] > 0].mean() < 0.05
    assert (out - healthy).abs().mean() < 0.02
    assert image.amax() == 1  # what was given is not changed


def test_tumour_on_the_midline_is_replaced_by_other_tissue():
    _, image, mask = with_tumour(row=0.5)
    out, label = remove_tumour(image, mask, np.random.RandomState(0))
    near = dilate(mask[0] > 0, 6)
    assert not label.any()
    assert out[0][mask[0] > 0].mean() == pytest.approx(0.5, abs=0.15)
    assert torch.equal(out[0][~near], image[0][~near])


@pytest.mark.parametrize("row", [0.68, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_elsewhere_the_tumour_stays(seed, row):
    _, image, mask = with_tumour(row=row)
    image = image + 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    out, label = operate_elsewhere(image, mask, np.random.RandomState(seed))
    assert not torch.equal(out, image)
    inside = mask[0] > 0
    assert torch.equal(label[0][inside], mask[0][inside])
    assert (out[0][label[0] > 0] > 0.9).float().mean() > 0.9  # a mirrored tumour is in the mirrored label
    assert (out[0] > 0.95).sum() <= 1.1 * label.sum()


def test_classes_and_regions_keep_their_indices():
    _, image, mask = with_tumour()
    for label in (3 * mask, torch.cat([mask, torch.zeros_like(mask)])):
        removed = remove_tumour(image, label, np.random.RandomState(0))
        assert removed is not None
        assert removed[1].shape == label.shape
        assert not removed[1].any()
        for seed in range(4):
            _, kept = operate_elsewhere(image, label, np.random.RandomState(seed))
            assert torch.equal(kept.unique(), label.unique())


def test_a_head_full_of_tumour_stays():
    image = head()
    assert remove_tumour(image, (image > 0).float(), np.random.RandomState(0)) is None


def test_shares_of_both_operations():
    _, image, mask = with_tumour()
    transform = RandRemoveTumourd(prob=0.3).set_random_state(0)
    given = {"image": image, "label": mask, "source": "a.png"}
    results = [transform(given) for _ in range(200)]
    removed = sum(not each["label"].any() for each in results)
    elsewhere = sum(bool(each["label"].any()) and not torch.equal(each["image"], image) for each in results)
    assert abs(removed - 60) < 20
    assert abs(elsewhere - 60) < 20
    assert all(each["source"] == "a.png" for each in results)
    again = RandRemoveTumourd(prob=0.3).set_random_state(0)
    assert all(torch.equal(again(given)["image"], each["image"]) for each in results[:20])


def test_meta_tensors_keep_their_geometry_and_empty_masks_their_image():
    _, image, mask = with_tumour()
    affine = torch.diag(torch.tensor([0.5, 0.5, 6, 1], dtype=torch.float64))
    data = {"image": MetaTensor(image, affine=affine), "label": MetaTensor(mask, affine=affine)}
    out = RandRemoveTumourd(prob=1)(data)
    assert all(torch.equal(out[key].affine, affine) for key in data)
    assert not out["label"].any()
    empty = RandRemoveTumourd(prob=1)({"image": head(), "label": torch.zeros(1, 128, 128)})
    assert torch.equal(empty["image"], head())
    assert not empty["label"].any()


def test_the_class_follows_the_tumour():
    healthy, image, mask = with_tumour()
    # Without noise, a half of the head is the mirror image of the other one, and putting it there changes nothing.
    image = image + 0.02 * torch.rand(image.shape, generator=torch.Generator().manual_seed(0))
    item = {"image": image, "label": mask, "class": 1, "source": "a.png"}
    always, never = (RandRemoveTumourd(prob=prob, class_number=3).set_random_state(0) for prob in (1, 0))
    assert (always(item)["class"], never(item)["class"], item["class"]) == (3, 1, 1)
    assert (always(item)["image"] - healthy).abs().mean() < 0.02
    elsewhere = RandRemoveTumourd(prob=0, elsewhere_prob=1, class_number=3).set_random_state(0)(item)
    assert elsewhere["class"] == 1
    assert not torch.equal(elsewhere["image"], image)
    fixed = [RemoveTumourd(share=share, class_number=3)(item) for share in (1, 0)]
    assert [each["class"] for each in fixed] == [3, 1]
    # The mask served to find the tumour.
    assert all("label" not in each for each in (always(item), never(item), elsewhere, *fixed))
    full = {"image": head(), "label": (head() > 0).float(), "class": 1}
    assert always(full)["class"] == 1  # no method applies
    without = {"image": head(), "label": torch.zeros(1, 128, 128), "class": 1}
    assert always(without)["class"] == 1  # an empty mask is no tumour that was taken out


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prob": 1.2}, "add up to at most 1"),
        ({"prob": 0.7, "elsewhere_prob": 0.5}, "add up to at most 1"),
        ({"keys": "image"}, "that of its label"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        RandRemoveTumourd(**options)


def test_volumes_are_refused():
    with pytest.raises(ValueError, match="single slices"):
        RandRemoveTumourd(prob=1)({"image": torch.zeros(1, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8)})


def test_real_slices_lose_the_contrast_of_their_tumours():
    before, after = [], []
    for image, mask in real_slices(NUMBERS):
        operated = remove_tumour(image, mask, np.random.RandomState(0))
        if operated is None:
            continue
        inside = mask[0] > 0
        around = dilate(inside, 5) & ~dilate(inside, 2)
        for found, picture in ((before, image), (after, operated[0])):
            found.append(float(picture[0][inside].mean() - picture[0][around].mean()))
    assert len(after) >= 0.8 * len(NUMBERS)
    assert np.abs(after).mean() < 0.6 * np.abs(before).mean()


def items(folder, share):
    entries = load_fold(folder, 0, "all")
    transform = slice_preprocessing(64, single_slices=True, negative_share=share)
    return [(entry, transform(entry)) for entry in entries]


def test_a_share_of_the_evaluated_slices_loses_its_tumour(disc_dataset):
    whole = items(disc_dataset, 0)
    # The discs are no heads, and have no midline; the rest of the slice is noise.
    all_of_them, half, again = (items(disc_dataset, share) for share in (1, 0.5, 0.5))
    negative = [item["label"] == entry["image"] for entry, item in half]
    assert all(item["label"] == entry["image"] for entry, item in all_of_them)
    assert 0 < sum(negative) < len(negative)
    for (entry, old), (_, item), (_, same), removed in zip(whole, half, again, negative, strict=True):
        assert item.keys() == old.keys()
        assert torch.equal(item["image"], same["image"])
        assert torch.equal(item["image"], old["image"]) != removed
        assert item["label"] == (entry["image"] if removed else entry["label"])
        assert torch.equal(item["image"].affine, old["image"].affine)
        done, expected = ([step["class"] for step in each["image"].applied_operations] for each in (item, old))
        assert done == expected  # so that the mask finds back to the grid of the file


def test_own_image_is_an_empty_mask(disc_dataset):
    entry = load_fold(disc_dataset, 0, "all")[0]
    transform = slice_preprocessing(64, label=True, single_slices=True)
    assert transform(entry)["label"].any()
    assert not transform({**entry, "label": entry["image"]})["label"].any()
    with pytest.raises(ValueError, match="label remains a path"):
        slice_preprocessing(64, label=True, single_slices=True, negative_share=0.5)
