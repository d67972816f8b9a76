"""Running a step over the images: resume, failures, provenance, contact sheet."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cups.errors import UserError
from cups.io.files import read_json, write_json
from cups.io.fingerprint import digest_of
from cups.io.images import image_bytes
from cups.io.locking import exclusive, one_writer
from cups.io.png import write_png
from cups.io.provenance import make_provenance
from pseudo_labels.steps.flags import recipe_of, settings_of
from pseudo_labels.steps.folders import INSTANCE_PREFIX
from pseudo_labels.steps.frames import FAILURES, Folder, Frame, FrameSource, input_paths
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.left_out import frames_of
from pseudo_labels.steps.options import FrameRun, ShardRun
from pseudo_labels.steps.resume import CONTACT_SHEET, Resume, recorded
from pseudo_labels.steps.workers import Batched, Outcomes, run_batched, run_pool, run_serial

log = logging.getLogger(__name__)
Show = Callable[[Frame], list[np.ndarray]]
"""Frame -> [(H, W, 3) uint8, ...] for the contact sheet."""


@dataclass(frozen=True, eq=False)
class Step:
    """One step of Stage 1: what decides its files, and how a frame becomes them.

    Attributes:
        script: its name in `provenance.json`.
        settings: a `flags.Settings`; its content is recorded, and compared when files of an earlier run stay.
        process: writes the frame's file in each output folder. A picklable function of a frame, or `Batched`
            for a network, whose files are handled in threads.
        outputs: folders written, with one file per frame each.
        show: pictures of a frame, for the contact sheet; none if the run is a `ShardRun`.
        inputs: what is read, for provenance; the images' folder is always added. Outputs older than
            the same frame's file in a `Folder` are redone.
        beside: other frames whose files there decide a frame's outputs as well, by the frame's name.
        weights: checkpoints used, as entries of `refs/weights.yaml`.
        fits: digests of what was fitted on data and decides what is written (centroids), by name.
        uses_ground_truth: whether the step itself reads labels.
        labels: what the ids of semantic outputs mean, for later steps.
        depth: kind of depth that the step writes, for later steps (`settings.outlines`).
        newer_than: a file that the outputs depend on (centroids); outputs older than it are redone.

    Raises:
        UserError: a folder would be read and written at once.
    """

    script: str
    settings: Any
    process: Callable[[Frame], Any] | Batched[Frame]
    outputs: Sequence[Folder]
    show: Show | None = None
    inputs: Sequence[Path | Folder] = ()
    weights: Sequence[dict[str, Any]] = ()
    fits: Mapping[str, str] = field(default_factory=dict)
    uses_ground_truth: bool | None = False
    newer_than: Path | None = None
    labels: LabelKind | None = None
    depth: str | None = None
    beside: Mapping[str, Sequence[Frame]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        read = {path.resolve() for path in input_paths(self.inputs)}
        for folder in self.outputs:
            if folder.directory.resolve() in read:
                raise UserError(
                    f"{folder.directory}: would be read and written at once; write under another name"
                )


@dataclass
class Summary:
    """Outcome of a step: numbers of frames done and skipped, and `{name: error}` of those that failed."""

    done: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def run_step(source: FrameSource, step: Step, run: ShardRun) -> Summary:
    """Run a step over all frames of this shard.

    Frames whose outputs exist and are readable are skipped unless `overwrite`. `provenance.json` is written
    into each output folder before the first frame, so that even an interrupted run is accounted for; what an
    earlier run recorded there about ground truth stays while its files stay. Shards may run at the same time.

    Raises:
        UserError: an unreadable frame (without `skip_bad`), files of a run with other settings or weights, or
            such a run that writes at this moment.
    """
    with writers([folder.directory for folder in step.outputs], step.script, step.settings):
        return _run_alone(source, step, run)


def writers(folders: Sequence[Path], script: str, settings: Any) -> ExitStack:
    """Be among the writers of output folders: any number of runs with the same settings, no other.

    Raises:
        UserError: a run with other settings writes into one of them.
    """
    share = digest_of([script, settings_of(settings)])
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(one_writer(folder, "use another `output_root`", share))
        return held.pop_all()


def _run_alone(source: FrameSource, step: Step, run: ShardRun) -> Summary:
    started = time.monotonic()
    everything = frames_of(run.source(source), [folder.directory for folder in step.outputs])
    log.info("%s: %s", source.image_folder, source.report(everything))
    frames = run.part(everything)
    older: Counter[str] = Counter()
    todo = [frame for frame in frames if run.overwrite or not _is_done(step, frame, older)]
    for newer, count in older.items():
        log.info("%d files are older than those of %s: made again", count, newer)
    chosen = {frame.name for frame in todo}
    kept = [frame for frame in frames if frame.name not in chosen]
    sizes = {frame.name: image_bytes(frame.image) for frame in frames}
    resume = Resume(everything, todo, kept, run, lambda frame: _is_done(step, frame), sizes)
    for folder in step.outputs:
        content = _provenance(folder, source, everything, step)
        resume.account(folder, content, settings_of(step.settings))
    summary = Summary(skipped=len(kept))
    # Closed here, not by the garbage collector: that may run inside a lock which ending threads wait for.
    with closing(_outcomes(todo, step.process, run.num_workers)) as results:
        for frame, error in tqdm(results, total=len(todo), desc=step.script, unit="img", disable=not todo):
            if error is None:
                summary.done += 1
            elif run.skip_bad:
                log.warning("skipped %s: %s", frame.name, error)
                summary.failures[frame.name] = str(error)
            else:
                raise error
    for folder in step.outputs:
        _write_failures(folder, frames, summary)
    if isinstance(run, FrameRun) and run.show and is_complete(everything, step.outputs, run):
        write_contact_sheet(step, everything, run.show)
    summary.seconds = time.monotonic() - started
    counts = (summary.done, summary.skipped, len(summary.failures))
    log.info("%s: %d done, %d skipped, %d failed", step.script, *counts)
    return summary


def _outcomes(
    todo: Sequence[Frame], process: Callable[[Frame], Any] | Batched[Frame], workers: int
) -> Outcomes[Frame]:
    if isinstance(process, Batched):
        return run_batched(todo, process, workers)
    return run_serial(todo, process) if workers < 1 or len(todo) < 2 else run_pool(todo, process, workers)


def _is_done(step: Step, frame: Frame, older: Counter[str] | None = None) -> bool:
    """Return whether all files of a frame are there, whole, and not older than what they were made of.

    older: counts the frames that are, by the name of what is newer.
    """
    if not all(folder.exists(frame) for folder in step.outputs):
        return False
    made = min(folder.path(frame).stat().st_mtime_ns for folder in step.outputs)
    sources = [] if step.newer_than is None else [(step.newer_than.name, step.newer_than)]
    folders = [one for one in step.inputs if isinstance(one, Folder)]
    read = (frame, *step.beside.get(frame.name, ()))
    sources += [(folder.name, folder.path(other)) for folder in folders for other in read]
    for name, path in sources:
        if path.is_file() and path.stat().st_mtime_ns > made:
            if older is not None:
                older[name] += 1
            return False
    return True


def is_complete(frames: Sequence[Frame], outputs: Sequence[Folder], run: ShardRun) -> bool:
    """Return whether all shards are through, so that what sums up all files may be written.

    A frame counts once it has its files, or has failed. The shard that finishes last sees this; several that
    finish together all do, and then write the same.

    Args:
        frames: of all shards.
    """
    if run.num_shards == 1:
        return True
    failed = set(_read_failures(outputs[0].directory / FAILURES))
    return all(frame.name in failed or all(folder.exists(frame) for folder in outputs) for frame in frames)


def _provenance(folder: Folder, source: FrameSource, frames: Sequence[Frame], step: Step) -> dict[str, Any]:
    """Return the content of a folder's `provenance.json`."""
    return make_provenance(
        script=step.script,
        arguments=recorded(source, step.settings, folder.root),
        images=source.image_folder,
        inputs=input_paths(step.inputs),
        weights=step.weights,
        uses_ground_truth=step.uses_ground_truth,
        labels=step.labels.content() if step.labels is not None and _holds_labels(folder) else None,
        depth=None if step.depth is None else {"source": step.depth},
        settings=recipe_of(step.settings),
        frames=[frame.name for frame in frames],
        fits=step.fits,
    )


def _holds_labels(folder: Folder) -> bool:
    return folder.suffix.endswith(".png") and not folder.name.startswith(INSTANCE_PREFIX)


def _read_failures(path: Path) -> dict[str, str]:
    return read_json(path, "remove it and run the step again") if path.is_file() else {}


def _write_failures(folder: Folder, frames: Sequence[Frame], summary: Summary) -> None:
    """Bring `failures.json` up to date for `frames`; what it says of other shards' frames stays."""
    path = folder.directory / FAILURES
    if not summary.failures and not path.is_file():
        return
    with exclusive(path):
        mine = {frame.name for frame in frames}
        others = {name: error for name, error in _read_failures(path).items() if name not in mine}
        failures = dict(sorted({**others, **summary.failures}.items()))
        if failures:
            write_json(path, failures)
        else:
            path.unlink(missing_ok=True)


def write_contact_sheet(step: Step, frames: Sequence[Frame], count: int) -> None:
    """Write pictures of the first `count` frames that have their files as `contact_sheet.png`."""
    from cups.visualization import figure_sheet

    good = [frame for frame in frames if all(folder.exists(frame) for folder in step.outputs)][:count]
    if good and step.show is not None:
        path = step.outputs[0].directory / CONTACT_SHEET
        rows, names = [step.show(frame) for frame in good], [frame.name for frame in good]
        write_png(path, figure_sheet((), rows, names))
        log.info("contact sheet: %s", path)
