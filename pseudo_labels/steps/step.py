"""Running a step over the images: resume, failures, provenance, contact sheet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cups.errors import UserError
from cups.io.files import read_json, write_json
from cups.io.locking import exclusive
from cups.io.png import write_png
from cups.io.provenance import FILE_NAME as PROVENANCE
from cups.io.provenance import any_ground_truth, changed_weights, read_provenance, write_provenance
from pseudo_labels.steps.flags import settings_of
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.options import FrameRun, ShardRun
from pseudo_labels.steps.workers import Batched, Outcomes, run_batched, run_pool, run_serial

log = logging.getLogger(__name__)
FAILURES = "failures.json"
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
        inputs: folders read, for provenance; the images' folder is always added.
        weights: checkpoints used, as entries of `refs/weights.yaml`.
        uses_ground_truth: whether the step itself reads labels.
        labels: what the ids of semantic outputs mean, for later steps.
        depth: kind of depth that the step writes, for later steps (`settings.outlines`).
        newer_than: a file that the outputs depend on (centroids); outputs older than it are redone.
    """

    script: str
    settings: Any
    process: Callable[[Frame], Any] | Batched[Frame]
    outputs: Sequence[Folder]
    show: Show | None = None
    inputs: Sequence[Path] = ()
    weights: Sequence[dict[str, Any]] = ()
    uses_ground_truth: bool | None = False
    newer_than: Path | None = None
    labels: LabelKind | None = None
    depth: str | None = None


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
        UserError: an unreadable frame (without `skip_bad`), files of a run with other settings or weights.
    """
    started = time.monotonic()
    everything = source.frames()
    frames = run.part(everything)
    oldest = step.newer_than
    since = oldest.stat().st_mtime_ns if oldest is not None and oldest.is_file() else 0
    todo = [f for f in frames if run.overwrite or not all(_is_done(o, f, since) for o in step.outputs)]
    summary = Summary(skipped=len(frames) - len(todo))
    for folder in step.outputs:
        with exclusive(folder.directory / PROVENANCE):
            _account(folder, source, step, run, summary.skipped > 0)
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


def _is_done(folder: Folder, frame: Frame, since: int) -> bool:
    return folder.exists(frame) and folder.path(frame).stat().st_mtime_ns >= since


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


def _account(folder: Folder, source: FrameSource, step: Step, run: ShardRun, keeps_files: bool) -> None:
    """Write `provenance.json`; refuse to mix files of two kinds in one folder."""
    earlier = read_provenance(folder.directory)
    if earlier is not None and keeps_files:
        refuse_other_settings(folder.directory, earlier, step.settings, step.script)
        changed = changed_weights(earlier, step.weights)
        if changed:
            raise UserError(
                f"{folder.directory}: holds files made with other weights ({', '.join(changed)} has changed "
                "since); add `overwrite`"
            )
    fact = step.uses_ground_truth
    # One shard alone overwrites its part; the others' files keep what was recorded of them.
    if keeps_files or (earlier is not None and not run.redoes_all):
        fact = any_ground_truth([fact, None if earlier is None else earlier.get("uses_ground_truth")])
    write_provenance(
        folder.directory,
        script=step.script,
        arguments=recorded(source, step.settings, folder.root),
        inputs=(source.image_folder, *step.inputs),
        weights=step.weights,
        uses_ground_truth=fact,
        labels=step.labels.content() if step.labels is not None and folder.suffix.endswith(".png") else None,
        depth=None if step.depth is None else {"source": step.depth},
    )


def recorded(source: FrameSource, settings: Any, root: Path) -> dict[str, Any]:
    """Return what `provenance.json` keeps of a run: the same from one process and from many."""
    everything = {**settings_of(source, decides_only=False), "output_root": str(root)}
    return {**everything, **settings_of(settings, decides_only=False)}


def refuse_other_settings(folder: Path, earlier: dict[str, Any], settings: Any, script: str) -> None:
    """Raise a `UserError` if files in `folder` were made by another script or with other settings."""
    then, now = earlier.get("arguments", {}), settings_of(settings)
    if earlier.get("script") != script:
        raise UserError(f"{folder}: written by {earlier.get('script')}; use another `output_root`")
    changed = [key for key in now if key in then and then[key] != now[key]]
    if changed:
        was = ", ".join(f"`{key}` {then[key]}" for key in changed)
        raise UserError(f"{folder}: holds files made with {was}; repeat that, or add `overwrite`")


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
        path = step.outputs[0].directory / "contact_sheet.png"
        rows, names = [step.show(frame) for frame in good], [frame.name for frame in good]
        write_png(path, figure_sheet((), rows, names))
        log.info("contact sheet: %s", path)
