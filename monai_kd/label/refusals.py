"""Refusals of an app of MONAI Label, as its clients get them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

__all__ = ["UNPROCESSABLE", "BatchWithRefusals", "answered"]

UNPROCESSABLE = 422

logger = logging.getLogger(__name__)


@contextmanager
def answered() -> Iterator[None]:
    """Turn MONAI Label's exceptions into an answer with status 422 and the line that says why.

    MONAI Label has no handler for them: its clients get "Internal Server Error".

    Raises:
        HTTPException: for a ``MONAILabelException``.
    """
    try:
        yield
    except MONAILabelException as error:
        raise HTTPException(UNPROCESSABLE, error.msg) from error


class BatchWithRefusals(BatchInferTask):
    """MONAI Label's inference of many images, which goes on after an image that can't be used.

    The result of such an image is ``{"error": line}``, and the line is logged as a warning. MONAI Label's own task ends
    at the first one when it has one worker, and without a GPU it divides by their number, 0, before the first image.
    """

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., dict]) -> dict[str, Any]:
        def infer_or_say(each: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
            try:
                return infer(each, datastore)
            except HTTPException as refusal:
                logger.warning("The image %s is left out: %s", each.get("_image_id"), refusal.detail)
                return {"error": refusal.detail}
            except Exception as error:
                logger.warning("The image %s is left out.", each.get("_image_id"), exc_info=True)
                return {"error": f"{type(error).__name__}: {error}"}

        gpus = {} if torch.cuda.is_available() else {"multi_gpu": False}
        return super().__call__({**request, **gpus}, datastore, infer_or_say)
