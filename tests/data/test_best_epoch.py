"""What decides which epoch is kept."""

from __future__ import annotations

import logging

import pytest
import torch

from monai_kd.data import best_epoch_by

EMPTY, TUMOUR = {"label": torch.zeros(1, 4, 4)}, {"label": torch.eye(4)[None]}


class Counted(list):
    asked = 0

    def __getitem__(self, index):
        self.asked += 1
        return super().__getitem__(index)


@pytest.mark.parametrize(("items", "read"), [([TUMOUR] * 3, 1), ([EMPTY, TUMOUR, EMPTY], 2)])
def test_a_tumour_ends_the_search(items, read, caplog):
    dataset = Counted(items)
    assert best_epoch_by(dataset) == "dice"
    assert (dataset.asked, caplog.text) == (read, "")


def test_no_tumour_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING):
        assert best_epoch_by([EMPTY] * 3) == "last epoch"
    (record,) = caplog.records
    assert "None of the 3 validation slices has a tumour" in record.getMessage()
    assert "LAST epoch" in record.getMessage()
