"""The page of the video report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from cups.evaluation.folders import open_truth, pair
from cups.io.file_names import IMAGE_SUFFIX
from cups.io.files import file_sha256, write_json, write_text
from cups.io.images import frame_stem
from cups.io.markdown import markdown_table, percent
from cups.io.provenance import code_version
from cups.labels.label_folders import open_labels
from cups.labels.pseudo_classes import open_guess
from cups.metrics.bootstrap import Difference
from cups.taxonomy import class_set
from cups.video.clips import clips_of
from cups.visualization import figure_sheet
from studies.reports.pictures import write_jpeg
from studies.video_scores import MISSING, SHIFT, Disturbed, Filmed, WayScores, gain_of_clips
from studies.video_settings import DATA_SEED, VideoSettings
from studies.video_ways import COUNTED, OVERLAP, TRACKER, TRUE, VOTED

KEYS = {"stq": "STQ", "aq": "AQ", "stq_sq": "SQ", "vpq": "VPQ", "vpq_things": "VPQ things", "pq": "PQ"}
SHOWN, DRAWN = 6, (COUNTED, OVERLAP, TRACKER, TRUE)
"""Frames and columns of the picture."""


def write_report(settings: VideoSettings) -> str:
    """Score the masks, write the page, its picture and `scores.json`; return the page."""
    filmed = open_film(settings)
    true_masks = replace(filmed, guess=Disturbed(filmed.truth, filmed.names))
    scores = {"masks": filmed.score(), "disturbed truth": true_masks.score()}
    stored = {name: {way: asdict(one) for way, one in part.items()} for name, part in scores.items()}
    write_json(settings.output / "scores.json", stored)
    sheet = figure_sheet(["image", *DRAWN], filmed.pictures(filmed.clips[0], SHOWN, DRAWN))
    figure = settings.page.parent / "figures" / f"{settings.page.stem}.jpg"
    write_jpeg(figure, sheet)
    text = page(settings, len(filmed.names), scores["masks"], scores["disturbed truth"])
    write_text(settings.page, text)
    return text


def open_film(settings: VideoSettings) -> Filmed:
    """Open masks, ground truth and images of the steps of the report."""
    root = settings.output / "toy_streets"
    truth = open_truth(open_labels(root / "gtFine"), class_set(19))
    found = open_labels(settings.masks)
    pairs = pair(truth.labels, found)
    guess = open_guess(found, truth.classes, "clusters", [name for _, name in pairs.both])
    files = {frame_stem(path): path for path in sorted((root / "leftImg8bit").rglob(f"*{IMAGE_SUFFIX}"))}
    names = {other: name for name, other in pairs.both}
    images = {other: files[name.rpartition("/")[2]] for other, name in names.items()}
    return Filmed(truth, guess, clips_of([(name, images[name]) for name in names]), images, names)


def page(
    settings: VideoSettings, frames: int, masks: Mapping[str, WayScores], better: Mapping[str, WayScores]
) -> str:
    """Return the page in Markdown."""
    clips = len(masks[TRACKER].stq)
    return f"""# Objects followed through toy sequences

Generated from result files by `python -m studies.video_report`; not edited by hand.

**Question.** Do objects keep their identity better with the tracker of `predict.py` than by overlap with the
frame before?

**Setting.** Toy streets, data seed {DATA_SEED}: {frames} frames in {clips} clips.
{_source(settings)}
The settings of the tracker were chosen on clips of other cities. Pseudo-classes are matched to the 19 classes
by the Hungarian method, once for each row. Ground truth is read by the evaluation only.

- reproduce: `{_command(settings)}`
- code: {code_version()}

## Masks that nobody drew

{_table(masks)}

{_verdict(masks)}

"{VOTED}" gives an object the category that most of its frames so far say, as `--votes` of
`predict.py` does by their scores; "{TRACKER}" leaves each frame its own. "{TRUE}" are
those of the true objects that masks show: what a perfect association would have, with the category of each
frame.

## Better masks

Those of the ground truth, {100 * MISSING:.0f} % of the objects missing in each frame, all masks shifted by up
to {SHIFT} pixels.

{_table(better)}

{_verdict(better)}

## What the columns are

STQ, AQ, SQ: segmentation and tracking quality, association, semantics (Weber et al., 2021). VPQ: mean over
windows of 1 to 4 frames (Kim et al., 2020). Intervals: Student's, over the clips, each scored by itself under
the matching of all. "{COUNTED}": by falling area, as files of single frames have them.

![Frames of the first clip, and their objects coloured by number](figures/{settings.page.stem}.jpg)
"""


def _source(settings: VideoSettings) -> str:
    if settings.checkpoint is None:
        return "Each is labelled by Stage 1, without any label and without its neighbours."
    digest = file_sha256(settings.checkpoint)[:12]
    return (
        "Each is predicted by itself, with a network that was trained without labels on toy streets of\n"
        f"another seed (`{_named(settings.checkpoint)}`, sha256 {digest})."
    )


def _named(checkpoint: Path) -> str:
    """Return the end of a checkpoint's path, which tells the run; the rest is a machine's."""
    return Path(*checkpoint.parts[-4:]).as_posix() if len(checkpoint.parts) > 4 else checkpoint.as_posix()


def _command(settings: VideoSettings) -> str:
    words = ["python", "-m", "studies.video_report"]
    if settings.checkpoint is not None:
        words += ["--checkpoint", _named(settings.checkpoint)]
    return shlex.join([*words, "--clips", str(settings.clips), "--clip_frames", str(settings.clip_frames)])


def _table(scores: Mapping[str, WayScores]) -> str:
    rows = [(way, *(percent(one.total[key]) for key in KEYS)) for way, one in scores.items()]
    return markdown_table(rows, ("numbers of objects", *KEYS.values()))


def _verdict(scores: Mapping[str, WayScores]) -> str:
    """Say what the tracker gains over overlap alone, and what could be gained."""
    before = scores[OVERLAP].stq
    gain, most = (gain_of_clips(before, scores[way].stq) for way in (TRACKER, TRUE))
    better = sum(two > one for one, two in zip(before, scores[TRACKER].stq, strict=True))
    word = {1: "Holds", -1: "Does not hold", 0: "Within chance"}[gain.sign]
    limit = "" if most.sign > 0 else ": here the masks limit STQ, not their numbers"
    return (
        f"**{word}**: STQ of the tracker is above that of overlap with the frame before.\n"
        f"On the mean clip it gains {_points(gain)}; it is above in {better} of {gain.images} clips.\n"
        f"True numbers gain {_points(most)}{limit}."
    )


def _points(one: Difference) -> str:
    interval = f"{100 * one.level:.0f} % interval {one.interval()}" if one.images > 1 else "no interval"
    return f"{100 * one.gain:+.1f} points ({interval})"
