"""Discriminative loss of pixel embeddings: pixels of an instance together, instances apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def instance_embedding_loss(
    embeddings: Tensor,
    instances: Tensor,
    *,
    delta_v: float = 0.5,
    delta_d: float = 1.5,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 0.001,
) -> Tensor:
    """Return alpha * pull + beta * push + gamma * regulariser, averaged over the images.

    De Brabandere et al., "Semantic Instance Segmentation with a Discriminative Loss Function" (2017),
    equations 1-4, with C instances of mean embedding m_c in an image and [z] = max(0, z):
    pull: mean over instances of the mean over their pixels of [|m_c - x_i| - delta_v]^2;
    push: mean over ordered pairs a != b of [2 delta_d - |m_a - m_b|]^2 (0 for a single instance);
    regulariser: mean of |m_c|. An image without instances adds zero. Computed in float32.

    Args:
        embeddings: (B, E, H, W) float.
        instances: (B, H, W) integer ids, 0 = no instance.

    Returns:
        Scalar float32, attached to the graph of `embeddings` whatever the instances.
    """
    count, kept = len(instances), instances.flatten() > 0
    numbers = torch.arange(count, device=instances.device).view(-1, 1, 1) * (instances.max() + 1)
    ids, owner, areas = torch.unique(
        (instances.long() + numbers).flatten()[kept], return_inverse=True, return_counts=True
    )
    image = torch.div(ids, instances.max() + 1, rounding_mode="floor")
    in_image = torch.bincount(image, minlength=count)
    with torch.autocast(embeddings.device.type, enabled=False):
        points = embeddings.float().permute(0, 2, 3, 1).flatten(0, 2)[kept]
        means = points.new_zeros(len(ids), points.shape[1]).index_add(0, owner, points) / areas[:, None]
        share = 1 / in_image[image].float()
        too_far = F.relu(torch.linalg.vector_norm(points - means[owner], dim=1) - delta_v).square()
        pull = (too_far * (share / areas)[owner]).sum()
        first, second = _pairs(image)
        pairs = (in_image[image[first]] * (in_image[image[first]] - 1)).float()
        distance = torch.linalg.vector_norm(means[first] - means[second], dim=1)
        push = (2 * F.relu(2 * delta_d - distance).square() / pairs).sum()
        regulariser = (torch.linalg.vector_norm(means, dim=1) * share).sum()
        return (alpha * pull + beta * push + gamma * regulariser) / count


def _pairs(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return both members of each unordered pair of instances that share an image."""
    together = (image[:, None] == image[None, :]).triu(diagonal=1)
    first, second = together.nonzero(as_tuple=True)
    return first, second


class InstanceEmbeddingLoss(nn.Module):
    """`instance_embedding_loss` with its constants kept."""

    def __init__(
        self,
        delta_v: float = 0.5,
        delta_d: float = 1.5,
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.001,
    ) -> None:
        super().__init__()
        self.constants = {
            "delta_v": delta_v,
            "delta_d": delta_d,
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
        }

    def forward(self, embeddings: Tensor, instances: Tensor) -> Tensor:
        """(B, E, H, W) embeddings, (B, H, W) ids (0 none) -> scalar."""
        return instance_embedding_loss(embeddings, instances, **self.constants)

    def extra_repr(self) -> str:
        """Show the constants."""
        return ", ".join(f"{name}={value}" for name, value in self.constants.items())
