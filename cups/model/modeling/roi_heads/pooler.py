"""Region pooling that is fast to train through on a CPU.

torchvision's RoIAlign (He et al., "Mask R-CNN", 2017) has a serial CPU backward pass that walks each channel
apart; it took a quarter of a training step. With a fixed number of samples per bin, pooling is a product of a
sparse matrix with the table of feature vectors, and its backward pass the product with the transpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import roi_align

from cups.ops.precision import full_precision, widen


class _SparseProduct(torch.autograd.Function):
    """Constant sparse matrix (M, N) times dense rows (N, C), on the CPU in float32."""

    @staticmethod
    def forward(ctx: Any, matrix: csr_matrix, rows: Tensor) -> Tensor:
        ctx.matrix = matrix
        return torch.from_numpy(matrix @ rows.detach().numpy())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, torch.from_numpy(ctx.matrix.T @ gradient.contiguous().numpy())


class PreciseROIAlign(ROIAlign):
    """RoIAlign whose regions are never rounded to the number format of the features.

    detectron2's own rounds them: in bfloat16, 4 pixels of 1024 x 2048. The operator computes in 32 bits under
    autocast anyway (torchvision has no kernel for bfloat16), so exact regions cost nothing.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool maps (B, C, h, w) in regions (R, 5) of image number and XYXY -> (R, C, P, P)."""
        wide = widen(input)
        with full_precision(input.device):
            pooled: Tensor = roi_align(
                wide,
                rois.to(wide.dtype),
                self.output_size,
                self.spatial_scale,
                self.sampling_ratio,
                self.aligned,
            )
        return pooled.to(input.dtype)


class SparseROIPooler(ROIPooler):
    """detectron2's `ROIPooler` of type ROIAlignV2: the same values, by other arithmetic.

    On other devices than the CPU, or with an adaptive number of samples (sampling ratio 0), it pools with
    `PreciseROIAlign`, and asks a GPU once how many boxes each level has; detectron2 asks level by level.
    """

    level_poolers: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.level_poolers = nn.ModuleList(
            PreciseROIAlign(level.output_size, level.spatial_scale, level.sampling_ratio, level.aligned)
            for level in self.level_poolers
        )

    def forward(self, x: list[Tensor], box_lists: list[Boxes]) -> Tensor:
        """Pool feature maps (B, C, H_l, W_l) in boxes (XYXY pixels of the image) -> (R, C, P, P)."""
        ratio, size = self.level_poolers[0].sampling_ratio, self.output_size[0]
        # Pooling has no gradient with respect to boxes, here as in RoIAlign.
        boxes = torch.cat([item.tensor for item in box_lists]).detach().float()
        if len(boxes) == 0 or torch.jit.is_tracing():
            return super().forward(x, box_lists)
        levels = assign_boxes_to_levels(
            box_lists, self.min_level, self.max_level, self.canonical_box_size, self.canonical_level
        )
        images = torch.repeat_interleave(torch.tensor([len(item) for item in box_lists]))
        if ratio <= 0 or x[0].device.type != "cpu":
            return self._level_by_level(x, boxes, levels, images.to(boxes.device, non_blocking=True))
        heights, widths = (torch.tensor([level.shape[axis] for level in x]) for axis in (2, 3))
        sizes = heights * widths * len(box_lists)
        # Row of the table at which the map of each box's image and level begins.
        origins = (sizes.cumsum(0) - sizes)[levels] + (heights * widths)[levels] * images
        scales = torch.tensor([pooler.spatial_scale for pooler in self.level_poolers])
        scaled = boxes * scales[levels, None] - 0.5
        columns, weights_x = axis_weights(scaled[:, 0], scaled[:, 2], widths[levels], size, ratio)
        rows, weights_y = axis_weights(scaled[:, 1], scaled[:, 3], heights[levels], size, ratio)
        rows = rows * widths[levels, None, None] + origins[:, None, None]
        # Bins (R, P, 1) x (R, 1, P), and in each the 2r x 2r cells that its samples touch.
        cells = rows[:, :, None, :, None] + columns[:, None, :, None, :]
        weights = weights_y[:, :, None, :, None] * weights_x[:, None, :, None, :]
        bins, per_bin = len(boxes) * size**2, (2 * ratio) ** 2
        matrix = csr_matrix(
            (
                weights.reshape(-1).numpy(),
                cells.reshape(-1).int().numpy(),
                np.arange(bins + 1, dtype=np.int32) * per_bin,
            ),
            shape=(bins, int(sizes.sum())),
        )
        table = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in x])
        pooled = _SparseProduct.apply(matrix, table.float())
        return pooled.view(len(boxes), size, size, -1).permute(0, 3, 1, 2).to(x[0].dtype)

    def _level_by_level(self, x: list[Tensor], boxes: Tensor, levels: Tensor, images: Tensor) -> Tensor:
        order = levels.argsort(stable=True)
        counts = (levels[:, None] == torch.arange(len(x), device=levels.device)).sum(dim=0).tolist()
        regions = torch.cat((images[:, None].to(boxes.dtype), boxes), dim=1)[order]
        parts = zip(self.level_poolers, x, regions.split(counts), strict=True)
        pooled = torch.cat([pooler(level, part) for pooler, level, part in parts])
        return torch.empty_like(pooled).index_copy_(0, order, pooled)


def axis_weights(start: Tensor, end: Tensor, length: Tensor, bins: int, ratio: int) -> tuple[Tensor, Tensor]:
    """Return which cells of one axis each bin averages, and their weights.

    Args:
        start, end: (R,) float, sides of the regions in cells (cell centres at whole numbers).
        length: (R,) int64, cells on the axis.
        bins, ratio: bins per region, samples per bin.

    Returns:
        (R, bins, 2 * ratio) int64 cells, and float32 weights whose sum over the last axis is 1 (less where
        samples lie more than a cell outside; they count as zero).
    """
    offsets = (torch.arange(bins * ratio) + 0.5) / (bins * ratio)
    position = start[:, None] + (end - start)[:, None] * offsets
    last = (length - 1)[:, None]
    inside = (position >= -1) & (position <= length[:, None])
    position = torch.minimum(position.clamp(min=0), last.to(position.dtype))
    low = position.long()
    high = torch.minimum(low + 1, last)
    fraction = position - low
    cells = torch.stack((low, high), dim=-1)
    weights = torch.stack((1 - fraction, fraction), dim=-1) * inside[..., None] / ratio
    return cells.view(len(start), bins, 2 * ratio), weights.view(len(start), bins, 2 * ratio)
