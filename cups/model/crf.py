"""Dense CRF around a panoptic network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cups.data.utils import image_array
from cups.model.modeling.meta_arch.panoptic_fpn import finite_log
from cups.ops.dense_crf import dense_crf_probabilities, require_dense_crf
from cups.ops.resize import resize_image

Merge = Callable[[Any, Tensor], tuple[Tensor, list[dict[str, Any]]]]
"""Detections and semantic probabilities (S+1, H, W) -> panoptic map and segments."""


class DenseCrfRefinement(nn.Module):
    """A network in evaluation mode whose semantic output follows image edges before it is merged.

    Args:
        model: network, or a wrapper around one; Detectron2's inputs and outputs.
        merge: the network's merge of detections and semantic probabilities.
        probabilities: whether the model's `sem_seg` holds probabilities, not logits.

    Raises:
        UserError: pydensecrf2 is not installed.
    """

    def __init__(self, model: nn.Module, merge: Merge, probabilities: bool = False) -> None:
        super().__init__()
        require_dense_crf()
        self.model = model
        self.merge = merge
        self.probabilities = probabilities

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the model's outputs, `sem_seg` (S+1, H, W) as log-probabilities of the CRF."""
        outputs = self.model(batched_inputs)
        return [self._refined(item, output) for item, output in zip(batched_inputs, outputs, strict=True)]

    def _refined(self, item: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
        scores = output["sem_seg"]
        image = resize_image(item["image"], (scores.shape[-2], scores.shape[-1]))
        before = finite_log(scores) if self.probabilities else F.log_softmax(scores.float(), dim=0)
        after = dense_crf_probabilities(image_array(image), before.cpu().numpy())
        refined = torch.from_numpy(after).to(scores.device)
        return output | {
            "sem_seg": finite_log(refined),
            "panoptic_seg": self.merge(output["instances"], refined),
        }
