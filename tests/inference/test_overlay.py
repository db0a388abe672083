"""Overlays of masks on slices and volumes, by their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor
from scipy.ndimage import binary_fill_holes
from skimage.measure import label
from skimage.morphology import dilation, erosion

from monai_kd.inference import overlay
from monai_kd.inference.overlay import draw_overlay, overlay_picture
from monai_kd.plots import class_colours

NAMES = ["meningioma", "glioma", "pituitary"]
UPRIGHT = {"affine": np.diag([-1.0, -1.0, 1.0, 1.0]), "spacing": np.ones(3)}


def colour(picture: Image.Image, name: str) -> np.ndarray:
    """Where a picture has a colour; (rows, columns)."""
    return (np.asarray(picture.convert("RGB")) == ImageColor.getrgb(name)[:3]).all(axis=-1)


def square(shape=(64, 64)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[20:30, 40:60] = 1
    return mask


@pytest.mark.parametrize(
    ("affine", "original"),
    [
        # columns to the left, rows to the back: as it is
        ([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], lambda upright: upright),
        # columns to the right, rows to the front, as NIfTI files often are
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], lambda upright: upright[::-1, ::-1]),
        # the first axis runs along the rows of the picture
        ([[0, -1, 0], [-1, 0, 0], [0, 0, 1]], lambda upright: upright.T),
    ],
)
def test_the_outline_runs_along_the_edge_of_the_mask_in_every_geometry(affine, original):
    full = np.eye(4)
    full[:3, :3] = affine
    upright = square()
    mask = np.ascontiguousarray(original(upright))
    picture = overlay_picture(mask * 100.0, {"affine": full, "spacing": np.ones(3)}, mask, mask.astype(float))
    assert picture.size == (640, 640)
    drawn = colour(picture, "#ff5252")
    large = upright.T.repeat(10, axis=0).repeat(10, axis=1)
    near = dilation(large, np.ones((15, 15))) > erosion(large, np.ones((15, 15)))
    assert drawn.any()
    assert not (drawn & ~near).any()
    # It is closed.
    assert not (erosion(large, np.ones((15, 15))) & ~binary_fill_holes(drawn)).any()
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), columns.min()) == pytest.approx((400, 200), abs=6)
    assert (rows.max(), columns.max()) == pytest.approx((600, 300), abs=6)


def test_the_slice_is_drawn_in_true_proportions_and_greys():
    image = np.tile(np.linspace(0, 1000, 50)[:, None], (1, 100))
    meta = {"affine": np.diag([-1.0, -1.0, 1, 1]), "spacing": [1.0, 0.75, 1.0]}
    picture = overlay_picture(image, meta, np.zeros(image.shape), image / 1000)
    assert picture.size == (640, round(640 * 0.75 * 2))
    grey = np.asarray(picture.convert("L")).astype(float)
    assert np.ptp(grey, axis=0).max() == 0
    assert np.corrcoef(grey[0], np.linspace(0, 1, 640))[0, 1] > 0.999
    assert (grey.min(), grey.max()) == (0, 255)


@pytest.mark.parametrize("masks", ["one", "empty", "at the border"])
def test_the_tumour_alone_is_outlined(masks):
    mask = {"one": square(), "empty": np.zeros((64, 64)), "at the border": np.ones((64, 64), np.uint8)}[masks]
    picture = overlay_picture(np.random.default_rng(0).random((64, 64)), UPRIGHT, mask, mask.astype(float))
    assert colour(picture, "#ff5252").any() == (masks != "empty")


def test_classes_have_their_colours_and_names():
    masks = np.stack([square(), square()[::-1], np.zeros((64, 64), np.uint8)])
    image, probability = np.zeros((64, 64)), masks.max(axis=0).astype(float)
    picture = overlay_picture(image, UPRIGHT, masks, probability, mask_names=NAMES)
    first, second, third = (colour(picture, name) for name in class_colours(3))
    assert first[:640].any()
    assert second[:640].any()
    assert not third[:640].any()
    # All three are named below.
    assert all(each[640:].any() for each in (first, second, third))
    assert not colour(picture, "#ff5252").any()
    alone = overlay_picture(image, UPRIGHT, masks[0], probability)
    assert alone.size == (640, 640) < picture.size


def test_the_largest_slice_of_a_volume_is_among_twelve(monkeypatch):
    mask = np.zeros((8, 8, 40), np.uint8)
    mask[2:4, 2:4, 3:] = 1
    mask[2:6, 2:6, 7] = 1
    texts = []
    original = overlay._Text.__init__
    monkeypatch.setattr(
        overlay._Text, "__init__", lambda self, *args: (texts.append(args[0]), original(self, *args))[1]
    )
    image = np.random.default_rng(0).random(mask.shape)
    picture = overlay_picture(image, UPRIGHT, mask, mask.astype(float), "a name\nwhat was found")
    # On pictures they count from 1.
    drawn = [int(text.split()[1]) - 1 for text in texts if text.startswith("slice ")]
    assert len(drawn) == len(set(drawn)) == 12
    assert drawn == sorted(drawn)
    assert {3, 7, 39} <= set(drawn)
    assert picture.width == 4 * 320 + 3 * 6


def test_every_part_is_outlined_whatever_its_size():
    mask = np.zeros((64, 64), np.uint8)
    mask[::4, ::4] = 1
    mask[40:60, 40:60] = 1
    picture = overlay_picture(np.zeros((64, 64)), UPRIGHT, mask, mask.astype(float))
    drawn = colour(picture, "#ff5252")
    assert label(drawn, connectivity=2, return_num=True)[1] == label(mask, connectivity=2, return_num=True)[1]


def test_without_a_tumour_the_slice_that_came_nearest_is_drawn():
    probability = np.zeros((8, 8, 3))
    probability[..., 1] = 0.4
    image = np.zeros((8, 8, 3))
    image[:4, :, 1] = 1
    picture = overlay_picture(image, UPRIGHT, np.zeros(image.shape), probability)
    grey = np.asarray(picture.convert("L"))[-600:]
    assert grey[:, :250].min() > 200
    assert grey[:, -250:].max() < 50


@pytest.mark.parametrize("title", ["", "costs $^$", "глиома ä …", "x" * 500 + "\nsecond", "\u6c49\u0001"])
def test_any_title_fits(title, tmp_path):
    draw_overlay(square() * 1.0, UPRIGHT, square(), square() * 1.0, tmp_path / "o.png", title)
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.width == 640
        assert picture.height > 640 or not title
        # The ends of a long line do not touch the edge.
        top = np.asarray(picture.convert("L"))[: picture.height - 640]
        assert not title or top.any()
        assert top[:, [0, -1]].max(initial=0) < 255
