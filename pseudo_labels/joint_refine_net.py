"""JointRefineNet: CSCMRefineNet's trunk with three heads, for classes, boundaries and instance embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from pseudo_labels.refine_net import RefineTrunk, SemanticHead


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
        self.semantic = SemanticHead(self.trunk.context_channels, channels, num_classes)
        self.boundary = nn.Linear(channels, 1)
        self.embedding = nn.Linear(channels, embedding_dim)

    def forward(
        self, features: Tensor, log_depth: Tensor, image: Tensor, pixels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return {"semantic": (B, K, H, W), "boundary": (B, 1, H, W), "embedding": (B, E, H, W)}.

        The first two are logits; arguments as in `CSCMRefineNet.forward`. `pixels` chooses those whose
        semantics are wanted; the others are of the whole image.
        """
        context = self.trunk.context(features, log_depth, image)
        maps = self.trunk(context, log_depth, image)
        wanted = maps if pixels is None else maps.flatten(1, 2)[:, pixels]
        return {
            "semantic": self.semantic(context, wanted, (image.shape[-2], image.shape[-1]), pixels),
            "boundary": self.boundary(maps).movedim(-1, 1),
            "embedding": self.embedding(maps).movedim(-1, 1),
        }
