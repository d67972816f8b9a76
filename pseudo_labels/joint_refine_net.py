"""JointRefineNet: CSCMRefineNet's trunk with three heads, for classes, boundaries and instance embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from pseudo_labels.refine_net import RefineTrunk


class JointRefineNet(nn.Module):
    """Semantics, boundaries and instance embeddings of an image.

    Args:
        feature_dim: channels D of the features.
        num_classes: classes K of the map.
        channels: width of the network.
        embedding_dim: channels E of the embeddings.
    """

    def __init__(
        self, feature_dim: int, num_classes: int, channels: int = 64, embedding_dim: int = 8
    ) -> None:
        super().__init__()
        self.trunk = RefineTrunk(feature_dim, channels)
        self.semantic = nn.Conv2d(channels, num_classes, 1)
        self.boundary = nn.Conv2d(channels, 1, 1)
        self.embedding = nn.Conv2d(channels, embedding_dim, 1)

    def forward(self, features: Tensor, log_depth: Tensor, image: Tensor) -> dict[str, Tensor]:
        """Return {"semantic": (B, K, H, W), "boundary": (B, 1, H, W), "embedding": (B, E, H, W)}.

        The first two are logits; arguments as in `CSCMRefineNet.forward`.
        """
        maps = self.trunk(features, log_depth, image)
        return {
            "semantic": self.semantic(maps),
            "boundary": self.boundary(maps),
            "embedding": self.embedding(maps),
        }
