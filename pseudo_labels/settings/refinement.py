"""Settings of the refinement networks: their training, and the semantics that they write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.errors import UserError
from pseudo_labels.settings.feature_choice import Backbone, TrainedBackbone
from pseudo_labels.settings.groups import Batch
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import flag, other_default, require_at_least
from pseudo_labels.steps.folders import (
    DEFAULT_METHOD,
    DEPTH_FOLDER,
    instance_folder,
    raw_semantics,
)


@dataclass(frozen=True)
class TrainRefineSettings(Backbone, Training):
    """Refinement."""

    semantic_subdir: str = flag(raw_semantics(300), "semantics to learn from")
    features_subdir: str | None = flag(None, "feature folder (default: features_{`backbone`})")
    depth_subdir: str = flag(DEPTH_FOLDER, "depth folder")
    num_semantic_classes: int | None = flag(
        None, "number of pseudo-classes (default: as the folder says, else the highest plus one)"
    )
    height: int = flag(512, "image rows at which the network works")
    crop: int = flag(1024, "side of training crops at that height, pixels; context ends at their border")
    channels: int = flag(64, "width")
    smoothness_weight: float = flag(0.0, "of agreement between look-alike neighbours")
    steps: int = other_default(Training, "steps", 1000)
    batch_size: int = other_default(Training, "batch_size", 8)
    lr: float = other_default(Training, "lr", 3e-4)
    weight_decay: float = other_default(Training, "weight_decay", 0.05)
    clip: float = other_default(Training, "clip", 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "height", "crop", "channels")
        require_at_least(0, self, "smoothness_weight")
        if self.num_semantic_classes is not None and not 1 <= self.num_semantic_classes <= 65534:
            raise UserError(
                f"`num_semantic_classes` {self.num_semantic_classes}: must be between 1 and 65534"
            )


@dataclass(frozen=True)
class TrainJointRefineSettings(TrainRefineSettings):
    """Joint heads."""

    instance_subdir: str | None = flag(
        None, "pseudo-instances to embed (default: pseudo_instance_depth_guided_... of the semantics)"
    )
    embedding_dim: int = flag(8, "channels of the instance embedding")
    boundary_weight: float = flag(0.5, "weight of the boundary loss")
    embedding_weight: float = flag(0.1, "weight of the embedding loss")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "embedding_dim")

    @property
    def instances(self) -> str:
        """Name of the instance folder."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, self.semantic_subdir)


@dataclass(frozen=True)
class RefinedSettings(TrainedBackbone, Batch):
    """Semantics to refine."""

    checkpoint: Path = flag(meaning="refine_net.pth or joint_refine_net.pth")
    semantic_subdir: str | None = flag(
        None, "semantics whose name and thing/stuff split the output takes (default: those trained on)"
    )
    features_subdir: str | None = flag(None, "feature folder (default: as in training)")
    depth_subdir: str | None = flag(None, "depth folder (default: as in training)")
    name: str | None = flag(
        None, "pseudo_semantic_refined_{NAME} (default: that of the semantics after pseudo_semantic_)"
    )
    flip: bool = flag(False, "average with the mirrored view")
    min_instance_area: int = flag(
        400, "of instances (JointRefineNet), in pixels of a 512-row image; smaller pieces are given away"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "min_instance_area")
