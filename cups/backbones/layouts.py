"""The layouts in which DINOv2 and DINOv3 weights are published: Meta's, timm's, and Transformers'."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_TRAINING_ONLY = ("mask_token", "rope_embed.periods")
_TRANSFORMERS_MARK = "embeddings.cls_token"
_TRANSFORMERS_NAMES = (
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^(encoder\.|model\.)?layer\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.up_proj\.", ".mlp.fc1."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)
_PROJECTION = re.compile(r"\.attention\.(?:attention\.)?(query|key|value|[qkv]_proj)\.(weight|bias)$")


def official_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of an official DINOv3 state dict as timm names them.

    The key bias is dropped: the official model masks it, and attention does not change with it. The rotary
    periods follow from the architecture; the mask token serves training alone.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            renamed[name.replace("qkv.bias", "q_bias")] = query
            renamed[name.replace("qkv.bias", "v_bias")] = value
        elif name not in _TRAINING_ONLY and not name.endswith("qkv.bias_mask"):
            name = name.replace("storage_tokens", "reg_token")
            renamed[name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = tensor
    return renamed


def timm_to_official(state: Mapping[str, Tensor], positions: int) -> dict[str, Tensor]:
    """Bring a DINOv2 state dict of timm to the official names; an official one stays as it is.

    timm leaves the mask token out, and adds the class token's position to the token where a model has
    registers.

    Args:
        positions: rows of the official position embedding, one for the class token included.
    """
    named = dict(state)
    if "reg_token" in named:
        named["register_tokens"] = named.pop("reg_token")
    position, token = named.get("pos_embed"), named.get("cls_token")
    if position is None or token is None:
        return named
    named.setdefault("mask_token", torch.zeros_like(token[0]))
    if position.shape[1] == positions - 1:
        named["pos_embed"] = torch.cat((torch.zeros_like(position[:, :1]), position), dim=1)
    return named


def transformers_to_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a DINOv2 or DINOv3 state dict of Transformers to the official names; others stay as they are.

    Query, key and value become one matrix. DINOv3 has no key bias: it becomes zero.
    """
    if _TRANSFORMERS_MARK not in state:
        return dict(state)
    renamed: dict[str, Tensor] = {}
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if match := _PROJECTION.search(name):
            block = _official_name(name[: match.start()] + ".")
            parts.setdefault((block, match[2]), {})[match[1][0]] = tensor
        else:
            renamed[_official_name(name)] = tensor
    turns_positions = "pos_embed" not in renamed  # DINOv3
    for (block, kind), by_letter in parts.items():
        if turns_positions and kind == "bias" and by_letter.keys() == {"q", "v"}:
            by_letter["k"] = torch.zeros_like(by_letter["q"])
        if by_letter.keys() == set("qkv"):  # else the matrix stays missing, and loading says so
            renamed[f"{block}attn.qkv.{kind}"] = torch.cat([by_letter[letter] for letter in "qkv"])
    if "mask_token" in renamed:
        renamed["mask_token"] = renamed["mask_token"].flatten(0, -2)
    if turns_positions:
        renamed["storage_tokens"] = renamed.pop("register_tokens", torch.empty(0))
    return renamed


def _official_name(name: str) -> str:
    for pattern, official in _TRANSFORMERS_NAMES:
        name = re.sub(pattern, official, name)
    return name
