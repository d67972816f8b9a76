"""Which images are to be predicted where the objects of clips keep their numbers, and by which tracker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cups.evaluation.panoptic_export import TRACKS, PanopticExport, changed
from cups.video.clip_tracker import ClipTracker, Predicted
from cups.video.films import films_of


@dataclass(frozen=True)
class Work:
    """What is left to predict.

    Attributes:
        images: name and file of each, frames of a clip in their order.
        trackers: of the frames of clips, by name.
        left_out: frames that an earlier run left out, and that stay left out.
    """

    images: Sequence[tuple[str, Path]]
    trackers: dict[str, ClipTracker] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()

    def numbered(self, name: str, prediction: Predicted) -> Predicted:
        """Return a prediction, of the next frame of a clip with the numbers of its clip."""
        return self.trackers[name].number(name, prediction) if name in self.trackers else prediction

    def skip(self, name: str) -> None:
        """Note that an image cannot be read."""
        if name in self.trackers:
            self.trackers[name].skipped.append(name)

    def save(self, names: Sequence[str]) -> None:
        """Store the trackers of frames whose predictions are written."""
        for tracker in dict.fromkeys(self.trackers[name] for name in names if name in self.trackers):
            tracker.save()


def work_left(export: PanopticExport, categories: int, tracking: bool, votes: bool = False) -> Work:
    """Return the images without a prediction that is newer than they are.

    A clip is predicted in order: behind its first missing frame all are predicted again, from where its
    tracker was stored. Where that does not fit what is written, it begins anew, and so gives the numbers that
    a run without a break would have given.

    Args:
        categories: how many categories there are.
        tracking: whether objects of clips keep their numbers, see `cups.video.films.films_of`.
        votes: whether frames vote on their categories, see `ClipTracker`.
    """
    pending = {export.images[index][0] for index in export.todo()}
    if not tracking:
        return Work([image for image in export.images if image[0] in pending])
    files, order = dict(export.images), [name for name, _ in export.images]
    position = {name: place for place, name in enumerate(order)}
    trackers: dict[str, ClipTracker] = {}
    left_out: set[str] = set()
    for clip in films_of(export.images):
        tracker = ClipTracker(clip, categories, export.folder / TRACKS / f"{clip.names[0]}.npz", votes)
        todo, kept_out = _frames_left(tracker, pending, files)
        pending = (pending - set(clip.names)) | set(todo)
        left_out |= kept_out
        trackers |= dict.fromkeys(todo, tracker)
        # Names may be sorted in another way than frames are numbered.
        places = sorted(position[name] for name in clip.names)
        for place, name in zip(places, clip.names, strict=True):
            order[place] = name
    return Work([(n, files[n]) for n in order if n in pending], trackers, frozenset(left_out))


def _frames_left(
    tracker: ClipTracker, pending: set[str], files: dict[str, Path]
) -> tuple[list[str], set[str]]:
    """Return the frames of a clip that are to be predicted, and those that stay left out."""
    names = tracker.clip.names
    missing = pending & set(names)
    if not missing and tracker.file.is_file():
        return [], set()
    if tracker.restore():
        assert tracker.done is not None
        before = names.index(tracker.done) + 1
        stored = tracker.file.stat().st_mtime_ns
        skipped = {name for name in tracker.skipped if changed(files[name]) <= stored}
        if missing & set(names[:before]) <= skipped:
            return list(names[before:]), skipped & set(names[:before])
    tracker.forget()
    return list(names), set()
