"""What the scoring of label files can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cups.errors import UserError

Ids = Literal["auto", "clusters", "id", "trainId"]
PREDICTION_IDS: tuple[Ids, ...] = ("auto", "clusters", "id", "trainId")
TRUTH_IDS: tuple[Ids, ...] = ("id", "trainId")


@dataclass(frozen=True)
class FolderSettings:
    """Two sets of labels, and how they are read.

    Attributes:
        truth, prediction: folders, or the JSON of a COCO panoptic set; see `cups.labels.label_folders`.
        truth_ids: "id", of the class file, or "trainId", places among its classes.
        prediction_ids: "id", "trainId"; "clusters", which are matched; "auto": the names of a COCO set, else
            clusters.
        only_predicted: leave out frames without a prediction.
        video: also score as video, STQ and VPQ: objects have the same ids in all frames of a clip.

    Raises:
        UserError: an unknown value.
    """

    truth: Path | None
    prediction: Path | None
    truth_ids: Ids = "id"
    prediction_ids: Ids = "auto"
    only_predicted: bool = False
    video: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("truth_ids", TRUTH_IDS), ("prediction_ids", PREDICTION_IDS)):
            if getattr(self, name) not in allowed:
                raise UserError(f"`{name}` {getattr(self, name)}: unknown; choose from {', '.join(allowed)}")

    @property
    def given(self) -> bool:
        """Whether label files are to be scored."""
        return self.truth is not None or self.prediction is not None

    def paths(self) -> tuple[Path, Path]:
        """Return ground truth and prediction.

        Raises:
            UserError: one of them is missing.
        """
        if self.truth is None or self.prediction is None:
            missing, given = ("truth", "prediction") if self.truth is None else ("prediction", "truth")
            raise UserError(f"`{missing}`: missing; `{given}` needs both")
        return self.truth, self.prediction
