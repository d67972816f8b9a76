"""STQ and VPQ of pseudo-classes over video clips, matched to the classes after the last frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from cups.metrics.panoptic_quality import PanopticQualitySemanticMatching
from cups.metrics.protocol import VoidRule
from cups.metrics.segments import VOID_CLASS
from cups.metrics.semantic import semantic_quality
from cups.metrics.tubes import ClipRows, association_quality, window_counts
from cups.ops.panoptic_map import PanopticMap

WINDOWS = (1, 2, 3, 4)
"""Frames of the windows that VPQ is averaged over: k = 0, 5, 10, 15 where every fifth frame is labelled."""
_FRAMES = 2**31


def frame_id(clip: int, place: int) -> int:
    """Return the image id that stands for a frame: of the clip of this number, at this place in time.

    Raises:
        ValueError: one of them outside 0..2**31-1.
    """
    if not (0 <= clip < _FRAMES and 0 <= place < _FRAMES):
        raise ValueError(f"clip {clip} and place {place} must be in 0..2**31-1")
    return clip * _FRAMES + place


class VideoQualitySemanticMatching(PanopticQualitySemanticMatching):
    """PQ, STQ and VPQ of clips; clusters are matched to classes once, by their total overlap, as for PQ.

    The state is that of `PanopticQualitySemanticMatching`, a few kilobytes a frame. `compute` adds

    - `stq`, `aq`, `stq_sq`: segmentation and tracking quality, the geometric mean of association quality and
      of the mean IoU of the classes. A predicted void pixel is an error. The void rule changes nothing.
    - `vpq`, `vpq_things`, `vpq_stuff`: the means of the window lengths; `vpq_1`, `vpq_1_things`, ... of each
      window. nan where no clip is long enough, or no class occurs.

    Unlike the mIoU beside it, `stq_sq` is of the same matching as PQ: STQ speaks of one output.

    Sources: Weber et al., "STEP" (NeurIPS 2021 datasets track); Kim et al., "Video Panoptic Segmentation"
    (CVPR 2020). See `cups.metrics.tubes`.

    Args:
        windows: lengths in frames that VPQ is averaged over.
        arguments, options: see `PanopticQualitySemanticMatching`.
    """

    def __init__(self, *arguments: Any, windows: Sequence[int] = WINDOWS, **options: Any) -> None:
        """Check the arguments and start from an empty state."""
        super().__init__(*arguments, **options)
        if not windows or min(windows) < 1:
            raise ValueError(f"windows {tuple(windows)} must be lengths of at least one frame")
        self.windows = tuple(windows)

    def update_frames(
        self,
        preds: Tensor | Sequence[PanopticMap],
        target: Tensor | Sequence[PanopticMap],
        clip: int,
        frames: Iterable[int],
    ) -> None:
        """Add frames of a clip, in any order.

        Args:
            preds, target: see `update`; instances are the same objects in all frames of a clip.
            clip: number of the clip.
            frames: place in time of each frame. Neighbours are those that follow one another in this order,
                whatever lies between. A frame that comes twice counts once.

        Raises:
            ValueError: a clip or frame outside 0..2**31-1, and as `update`.
        """
        self.update(preds, target, [frame_id(clip, int(frame)) for frame in frames])

    def _scores(
        self, *rules: VoidRule, assignment: np.ndarray | None = None
    ) -> dict[VoidRule, dict[str, Tensor]]:
        reports = super()._scores(*rules, assignment=assignment)
        known: dict[bytes, tuple[ClipRows, dict[str, float]]] = {}
        for rule, report in reports.items():
            matched = self._positions(report["assignment"].cpu().numpy())
            if matched.tobytes() not in known:
                known[matched.tobytes()] = self._tracked(matched)
            clips, tracking = known[matched.tobytes()]
            values = tracking | self._window_scores(clips, rule)
            report.update({k: torch.as_tensor(np.asarray(v), device=self.device) for k, v in values.items()})
        return reports

    def _tracked(self, matched: np.ndarray) -> tuple[ClipRows, dict[str, float]]:
        """Return the rows under a matching, and STQ with its two factors."""
        clips = self._clips(matched)
        counts = self._confusion(clips.rows, clips.target_class)
        sq = semantic_quality(counts, matched, classes_mask=self._mask).miou
        aq = association_quality(clips, self._mask)
        return clips, {"stq": float(np.sqrt(aq * sq)), "aq": aq, "stq_sq": sq}

    def _clips(self, matched: np.ndarray) -> ClipRows:
        rows, image = self._table()
        ids = dim_zero_cat(self.header).cpu().numpy()[:, 0]
        if (ids < 0).any():
            raise ValueError("frames without a clip cannot be scored as video; use update_frames")
        frames, of_frame = np.unique(ids[image], return_inverse=True)
        clip, first, length = np.unique(frames // _FRAMES, return_index=True, return_counts=True)
        of_clip = np.searchsorted(clip, frames // _FRAMES)
        place = np.arange(len(frames)) - first[of_clip]
        target_class = np.where(
            rows[:, 2] == self.void, VOID_CLASS, np.searchsorted(self._classes, rows[:, 2])
        )
        return ClipRows(
            rows,
            of_clip[of_frame],
            place[of_frame],
            length[of_clip][of_frame],
            np.append(matched, VOID_CLASS)[self._cluster(rows)],
            target_class,
            self._is_thing,
        )

    def _window_scores(self, clips: ClipRows, rule: VoidRule) -> dict[str, float]:
        scores: dict[str, float] = {}
        for frames in self.windows:
            averages = self._averages(window_counts(clips, frames, len(self._classes), rule))
            for suffix in ("", "_things", "_stuff"):
                scores[f"vpq_{frames}{suffix}"] = float(averages[f"pq{suffix}"])
        for suffix in ("", "_things", "_stuff"):
            scores[f"vpq{suffix}"] = float(np.mean([scores[f"vpq_{n}{suffix}"] for n in self.windows]))
        return scores
