"""Weights of a DINOv2 transformer from an ONNX file that was exported from the ``transformers`` library."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from monai_kd.extras import require_extra

__all__ = ["dinov2_from_onnx"]

_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
_QKV = ("query", "key", "value")


def dinov2_from_onnx(path: Path) -> dict[str, torch.Tensor]:
    """Read the backbone of an ONNX file into the layout of timm's ``vit_…_patch14_dinov2``.

    The exporter keeps the names of biases and norms, but not of the matrices of linear layers, which it stores
    transposed: each is found by the name of the node that multiplies by it. It splits the position embedding into that
    of the class token and those of the patches. Parts outside ``backbone.``, such as a decoder, are left out.

    Args:
        path: an ONNX file whose initialisers ``backbone.…`` have the names of ``transformers.Dinov2Model``.

    Returns:
        name to float32 tensor.

    Raises:
        ImportError: the package onnx is not installed.
        ValueError: the file is no such export.
    """
    require_extra("weights", ["onnx"], f"reading {path.name}")
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(str(path)).graph
    stored = {each.name: torch.from_numpy(to_array(each).copy()) for each in graph.initializer}
    named = {key: value for key, value in stored.items() if key.startswith("backbone.")}
    positions: dict[str, torch.Tensor] = {}
    for node in graph.node:
        for source in node.input:
            if source not in stored or not source.startswith("onnx::"):
                continue
            if node.op_type == "MatMul":
                named[node.name.strip("/").removesuffix("/MatMul").replace("/", ".") + ".weight"] = stored[source].T
            elif node.name.startswith("/backbone/embeddings/"):
                positions["class" if stored[source].shape[1] == 1 else "patches"] = stored[source]
    state = {_renamed(key): value.contiguous() for key, value in named.items() if key.startswith("backbone.")}
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    try:
        state["pos_embed"] = torch.cat([positions["class"], positions["patches"]], dim=1)
        for block in blocks:
            for what in ("weight", "bias"):
                parts = [state.pop(f"blocks.{block}.attention.attention.{part}.{what}") for part in _QKV]
                state[f"blocks.{block}.attn.qkv.{what}"] = torch.cat(parts)
    except KeyError as error:
        raise ValueError(f"{path} is no export of a DINOv2 transformer: it lacks {error}.") from error
    return state


def _renamed(key: str) -> str:
    name = re.sub(r"^encoder\.layer\.(\d+)\.", r"blocks.\1.", key.removeprefix("backbone."))
    prefix = ""
    if found := re.match(r"blocks\.\d+\.", name):
        prefix, name = found.group(), name[found.end() :]
    for theirs, ours in _NAMES.items():
        if name == theirs or name.startswith(f"{theirs}."):
            return prefix + ours + name[len(theirs) :]
    return prefix + name
