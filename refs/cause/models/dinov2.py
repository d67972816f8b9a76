"""DINOv2 vision transformer (Oquab et al., TMLR 2024) with the official checkpoint's parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PATCH = 14
GRID = 37
"""The published models were trained at 518 pixels: 37 x 37 patches."""
SIZES = {"vits14": (384, 12, 6), "vitb14": (768, 12, 12), "vitl14": (1024, 24, 16)}
"""Architecture -> (dim, blocks, heads)."""
WITH_REGISTERS = "_reg"
REGISTERS = 4
"""Of the published models whose name ends in `_reg` (Darcet et al., ICLR 2024)."""


class Attention(nn.Module):
    """Multi-head self-attention with one linear layer for query, key and value."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (Touvron et al., ICCV 2021)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, dim) -> (B, N, dim)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H/14 * W/14, dim)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class DinoVisionTransformer(nn.Module):
    """DINOv2, with or without registers.

    With `checkpointing`, training keeps no activations inside the blocks.
    """

    checkpointing = False

    def __init__(self, dim: int, depth: int, heads: int, registers: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.registers = registers
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + GRID * GRID, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # unused here, part of the checkpoint
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, dim))
        self.patch_embed = PatchEmbed(dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def _positions(self, height: int, width: int) -> Tensor:
        """Position embeddings of a grid: (1, 1 + height * width, dim)."""
        if (height, width) == (GRID, GRID):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, GRID, GRID, self.dim).permute(0, 3, 1, 2)
        if self.registers:
            grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=True)
        else:
            # The original computes its scale factors from size + 0.1, which moves the sampling points; its
            # models with registers came later and do not.
            factors = ((height + 0.1) / GRID, (width + 0.1) / GRID)
            grid = F.interpolate(grid, scale_factor=factors, mode="bicubic", antialias=False)
        return torch.cat((self.pos_embed[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised (B, 3, H, W), sides multiples of 14 -> class token (B, dim), patches (B, P, dim)."""
        height, width = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        x = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self._positions(height, width)
        if self.registers:
            x = torch.cat((x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        for block in self.blocks:
            recompute = self.checkpointing and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        x = self.norm(x)
        return x[:, 0], x[:, 1 + self.registers :]


def dinov2_vit(architecture: str) -> DinoVisionTransformer:
    """Build `vits14`, `vitb14`, `vitl14`, or one of them with registers (`vits14_reg`), untrained."""
    size = SIZES[architecture.removesuffix(WITH_REGISTERS)]
    return DinoVisionTransformer(*size, REGISTERS if architecture.endswith(WITH_REGISTERS) else 0)
