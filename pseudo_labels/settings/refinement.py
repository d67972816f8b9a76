"""Settings of the refinement networks: their training, and the semantics that they write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import CLUSTERS, COUNT, NAME, NOT_NEGATIVE, PATH, SIDE, WIDTH
from pseudo_labels.settings.feature_choice import Backbone, TrainedBackbone
from pseudo_labels.settings.groups import Batch
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import flag, other_default
from pseudo_labels.steps.folders import (
    DEFAULT_METHOD,
    DEPTH_FOLDER,
    instance_folder,
    raw_semantics,
)

START_FRAMES = 1000
"""That classes are measured on before the first step."""


@dataclass(frozen=True)
class TrainRefineSettings(Backbone, Training):
    """Refinement."""

    semantic_subdir: str = flag(raw_semantics(300), "semantics to learn from", allowed=NAME)
    features_subdir: str | None = flag(None, "feature folder (default: features_{`backbone`})", allowed=PATH)
    depth_subdir: str = flag(DEPTH_FOLDER, "depth folder", allowed=PATH)
    num_semantic_classes: int | None = flag(
        None,
        "number of pseudo-classes (default: as the folder says, else the highest plus one)",
        allowed=CLUSTERS,
    )
    height: int = flag(512, "image rows at which the network works", allowed=SIDE)
    crop: int = flag(
        1024, "side of training crops at that height, pixels; context ends at their border", allowed=SIDE
    )
    channels: int = flag(64, "width", allowed=WIDTH)
    smoothness_weight: float = flag(0.0, "of agreement between look-alike neighbours", allowed=NOT_NEGATIVE)
    steps: int = other_default(Training, "steps", 1000)
    batch_size: int = other_default(Training, "batch_size", 8)
    lr: float = other_default(Training, "lr", 3e-4)
    weight_decay: float = other_default(Training, "weight_decay", 0.05)
    clip: float = other_default(Training, "clip", 1.0)


@dataclass(frozen=True)
class TrainJointRefineSettings(TrainRefineSettings):
    """Joint heads."""

    instance_subdir: str | None = flag(
        None,
        "pseudo-instances to embed (default: pseudo_instance_depth_guided_... of the semantics)",
        allowed=NAME,
    )
    embedding_dim: int = flag(8, "channels of the instance embedding", allowed=WIDTH)
    boundary_weight: float = flag(0.5, "weight of the boundary loss", allowed=NOT_NEGATIVE)
    embedding_weight: float = flag(0.1, "weight of the embedding loss", allowed=NOT_NEGATIVE)

    @property
    def instances(self) -> str:
        """Name of the instance folder."""
        return self.instance_subdir or instance_folder(DEFAULT_METHOD, self.semantic_subdir)


@dataclass(frozen=True)
class RefinedSettings(TrainedBackbone, Batch):
    """Semantics to refine."""

    checkpoint: Path = flag(meaning="refine_net.pth or joint_refine_net.pth")
    semantic_subdir: str | None = flag(
        None,
        "semantics whose name and thing/stuff split the output takes (default: those trained on)",
        allowed=NAME,
    )
    features_subdir: str | None = flag(None, "feature folder (default: as in training)", allowed=PATH)
    depth_subdir: str | None = flag(None, "depth folder (default: as in training)", allowed=PATH)
    name: str | None = flag(
        None,
        "pseudo_semantic_refined_{NAME} (default: that of the semantics after pseudo_semantic_)",
        allowed=NAME,
    )
    flip: bool = flag(False, "average with the mirrored view")
    min_instance_area: int = flag(
        400,
        "of instances (JointRefineNet), in pixels of a 512-row image; smaller pieces are given away",
        allowed=COUNT,
    )
