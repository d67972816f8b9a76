"""What every Stage-1 step shares: walking the images, resume, failures, provenance."""

from __future__ import annotations

import argparse
import copy
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cups.errors import UserError
from cups.io.file_names import IMAGE_SUFFIX, IMAGE_SUFFIXES
from cups.io.files import atomic_write, is_readable
from cups.io.locking import exclusive
from cups.io.png import write_png
from cups.io.provenance import FILE_NAME as PROVENANCE
from cups.io.provenance import any_ground_truth, changed_weights, read_provenance, write_provenance
from pseudo_labels.steps.arguments import SPLITS, image_folder, recorded, settings_of
from pseudo_labels.steps.arguments import add_batch_argument as add_batch_argument
from pseudo_labels.steps.arguments import add_common_arguments as add_common_arguments
from pseudo_labels.steps.arguments import make_parser as make_parser
from pseudo_labels.steps.arguments import output_root as output_root
from pseudo_labels.steps.arguments import pick_device as pick_device
from pseudo_labels.steps.workers import Batched, Outcomes, run_batched, run_pool, run_serial

log = logging.getLogger(__name__)
FAILURES = "failures.json"


@dataclass(frozen=True)
class Frame:
    """One image: its stem (without `_leftImg8bit`), its sub-folder (`train/<city>`), its file."""

    stem: str
    relative: Path
    image: Path


@dataclass(frozen=True)
class Folder:
    """An output (or input) folder with one file per frame: `root/name/{frame.relative}/{stem}{suffix}`."""

    root: Path
    name: str
    suffix: str

    @property
    def directory(self) -> Path:
        """The folder that holds the files and `provenance.json`."""
        return self.root / self.name

    def path(self, frame: Frame) -> Path:
        """File of a frame."""
        return self.directory / frame.relative / f"{frame.stem}{self.suffix}"

    def exists(self, frame: Frame) -> bool:
        """Whether the file of a frame exists and is readable (not cut short)."""
        return is_readable(self.path(frame))

    def require(self, frames: Sequence[Frame], fix: str) -> None:
        """Raise a `UserError` that names the folder, or the first missing file, and the fix."""
        if not self.directory.is_dir():
            raise UserError(f"{self.directory}: no such folder; {fix}")
        for frame in frames:
            if not self.path(frame).is_file():
                raise UserError(f"{self.path(frame)}: no such file; {fix}")


@dataclass
class Summary:
    """Outcome of a step: numbers of frames done and skipped, and `{stem: error}` of those that failed."""

    done: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def list_frames(args: argparse.Namespace) -> list[Frame]:
    """Return the frames this run works on, sorted, after `--max_images` and sharding.

    Raises:
        UserError: no source given, a missing folder, an empty split, an impossible shard.
    """
    if not 0 <= args.shard < args.num_shards:
        raise UserError(
            f"--shard {args.shard}: must be between 0 and --num_shards - 1 = {args.num_shards - 1}"
        )
    if (args.image_dir is None) == (args.cityscapes_root is None):
        raise UserError("--cityscapes_root: give either it or --image_dir")
    frames = list(_plain_frames(args.image_dir) if args.image_dir else _cityscapes_frames(args))
    if not frames:
        where = args.image_dir or image_folder(args) / args.split
        raise UserError(f"{where}: no images inside; check the folder and --split")
    _refuse_duplicates(frames)
    return frames[: args.max_images][args.shard :: args.num_shards]


def _cityscapes_frames(args: argparse.Namespace) -> Iterator[Frame]:
    base = image_folder(args)
    if not Path(args.cityscapes_root).is_dir():
        raise UserError(f"{args.cityscapes_root}: no such folder; give the Cityscapes root")
    splits = [split for split in SPLITS if (base / split).is_dir()] if args.split == "all" else [args.split]
    for split in splits:
        if not (base / split).is_dir():
            raise UserError(f"{base / split}: no such folder; unpack leftImg8bit there or change --split")
        for image in sorted((base / split).glob(f"*/*{IMAGE_SUFFIX}")):
            yield Frame(image.name[: -len(IMAGE_SUFFIX)], Path(split) / image.parent.name, image)


def _plain_frames(folder: Path) -> Iterator[Frame]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of images with --image_dir")
    for image in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        yield Frame(image.stem, image.parent.relative_to(folder), image)


def _refuse_duplicates(frames: Sequence[Frame]) -> None:
    seen: dict[Path, Path] = {}
    for frame in frames:
        other = seen.setdefault(frame.relative / frame.stem, frame.image)
        if other != frame.image:
            raise UserError(f"{frame.image}: same name as {other}; rename one, outputs would collide")


def run_stage(
    frames: Sequence[Frame],
    process: Callable[[Frame], Any] | Batched[Frame],
    outputs: Sequence[Folder],
    args: argparse.Namespace,
    *,
    script: str,
    inputs: Sequence[Path] = (),
    weights: Sequence[dict[str, Any]] = (),
    uses_ground_truth: bool | None = False,
    workers: int | None = None,
    show: Callable[[Frame], tuple[str, list[np.ndarray]]] | None = None,
    newer_than: Path | None = None,
) -> Summary:
    """Run `process(frame)`, which writes the frame's file in each output folder, over all frames.

    Frames whose outputs exist and are readable are skipped unless `--overwrite`. `provenance.json` is written
    into each output folder before the first frame, so that even an interrupted run is accounted for; what an
    earlier run recorded there about ground truth stays while its files stay. Shards may run at the same time.

    Args:
        process: a function of a frame, or `Batched` for a network; its files are handled in threads.
        inputs: folders read, for provenance; the images' folder is always added.
        workers: processes (default `--num_workers`); a function must then be picklable.
        newer_than: a file that the outputs depend on (centroids); outputs older than it are redone.
        show: returns (caption, [(H, W, 3) uint8, ...]) of a frame, for `--show N`.

    Raises:
        UserError: an unreadable frame (without `--skip_bad`), files of a run with other settings or weights.
    """
    started = time.monotonic()
    oldest = newer_than.stat().st_mtime_ns if newer_than is not None and newer_than.is_file() else 0
    todo = [f for f in frames if args.overwrite or not all(_is_done(o, f, oldest) for o in outputs)]
    summary = Summary(skipped=len(frames) - len(todo))
    for folder in outputs:
        with exclusive(folder.directory / PROVENANCE):
            _account(folder, args, script, (image_folder(args), *inputs), weights, uses_ground_truth, summary)
    results = _run(todo, process, args.num_workers if workers is None else workers)
    # Closed here, not by the garbage collector: that may run inside a lock which ending threads wait for.
    with closing(results):
        for frame, error in tqdm(results, total=len(todo), desc=script, unit="img", disable=not todo):
            if error is None:
                summary.done += 1
            elif args.skip_bad:
                log.warning("skipped %s: %s", frame.stem, error)
                summary.failures[_name(frame)] = str(error)
            else:
                raise error
    for folder in outputs:
        _write_failures(folder, frames, summary)
    if args.show and show is not None and is_complete(args, outputs):
        good = [frame for frame in all_frames(args) if all(folder.exists(frame) for folder in outputs)]
        write_contact_sheet(outputs[0].directory / "contact_sheet.png", [show(f) for f in good[: args.show]])
    summary.seconds = time.monotonic() - started
    log.info(
        "%s: %d done, %d skipped, %d failed", script, summary.done, summary.skipped, len(summary.failures)
    )
    return summary


def _run(
    todo: Sequence[Frame], process: Callable[[Frame], Any] | Batched[Frame], workers: int
) -> Outcomes[Frame]:
    if isinstance(process, Batched):
        return run_batched(todo, process, workers)
    return run_serial(todo, process) if workers < 1 or len(todo) < 2 else run_pool(todo, process, workers)


def _is_done(folder: Folder, frame: Frame, oldest: int) -> bool:
    return folder.exists(frame) and folder.path(frame).stat().st_mtime_ns >= oldest


def _name(frame: Frame) -> str:
    return str(frame.relative / frame.stem)


def all_frames(args: argparse.Namespace) -> list[Frame]:
    """Return the frames of all shards."""
    everything = copy.copy(args)
    everything.num_shards, everything.shard = 1, 0
    return list_frames(everything)


def is_complete(args: argparse.Namespace, outputs: Sequence[Folder]) -> bool:
    """Return whether all shards are through, so that what sums up all files may be written.

    A frame counts once it has its files, or has failed. The shard that finishes last sees this; several that
    finish together all do, and then write the same.
    """
    if args.num_shards == 1:
        return True
    failed = set(_read_failures(outputs[0].directory / FAILURES))
    return all(
        _name(frame) in failed or all(folder.exists(frame) for folder in outputs)
        for frame in all_frames(args)
    )


def _account(
    folder: Folder,
    args: argparse.Namespace,
    script: str,
    inputs: Sequence[Path],
    weights: Sequence[dict[str, Any]],
    uses_ground_truth: bool | None,
    summary: Summary,
) -> None:
    earlier = read_provenance(folder.directory)
    if earlier is not None and summary.skipped:
        refuse_other_settings(folder.directory, earlier, args, script, ignore=("batch_size",))
        changed = changed_weights(earlier, weights)
        if changed:
            raise UserError(
                f"{folder.directory}: holds files made with other weights ({', '.join(changed)} has changed "
                "since); add --overwrite"
            )
    fact = uses_ground_truth
    # One shard alone overwrites its part; the others' files keep what was recorded of them.
    overwrites_all = args.overwrite and (args.num_shards == 1 or args.run_id is not None)
    if summary.skipped or (earlier is not None and not overwrites_all):
        fact = any_ground_truth([fact, None if earlier is None else earlier.get("uses_ground_truth")])
    write_provenance(
        folder.directory,
        script=script,
        arguments=recorded(args),
        inputs=inputs,
        weights=weights,
        uses_ground_truth=fact,
    )


def refuse_other_settings(
    folder: Path, earlier: dict[str, Any], args: argparse.Namespace, script: str, ignore: Sequence[str] = ()
) -> None:
    """Raise a `UserError` if files in `folder` were made by another script or with other settings.

    ignore: further arguments that do not matter (the batch size of a network that only predicts).
    """
    then, now = earlier.get("arguments", {}), settings_of(args, ignore)
    if earlier.get("script") != script:
        raise UserError(f"{folder}: written by {earlier.get('script')}; use another --output_root")
    changed = [key for key in now if key in then and then[key] != now[key]]
    if changed:
        was = ", ".join(f"--{key} {then[key]}" for key in changed)
        raise UserError(f"{folder}: holds files made with {was}; repeat that, or add --overwrite")


def _read_failures(path: Path) -> dict[str, str]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _write_failures(folder: Folder, frames: Sequence[Frame], summary: Summary) -> None:
    """Bring `failures.json` up to date for `frames`; what it says of other shards' frames stays."""
    path = folder.directory / FAILURES
    if not summary.failures and not path.is_file():
        return
    with exclusive(path):
        mine = {_name(frame) for frame in frames}
        others = {name: error for name, error in _read_failures(path).items() if name not in mine}
        failures = dict(sorted({**others, **summary.failures}.items()))
        if failures:
            text = json.dumps(failures, indent=2) + "\n"
            atomic_write(path, lambda temporary: temporary.write_text(text))
        else:
            path.unlink(missing_ok=True)


def write_contact_sheet(path: Path, rows: Sequence[tuple[str, list[np.ndarray]]]) -> None:
    """Write rows of (caption, images) as one PNG."""
    from cups.visualization import figure_sheet

    if rows:
        write_png(path, figure_sheet((), [images for _, images in rows], [name for name, _ in rows]))
        log.info("contact sheet: %s", path)
