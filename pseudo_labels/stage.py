"""What every Stage-1 step shares: arguments, walking the images, resume, workers, failures, provenance."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cups.errors import UserError
from cups.layout import IMAGE_SUFFIX, IMAGE_SUFFIXES
from cups.ops.png import atomic_write, is_complete_png, write_png
from cups.provenance import any_ground_truth, read_provenance, write_provenance

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test", "train_extra")
_WHICH_AND_WHERE = (
    "cityscapes_root",
    "image_dir",
    "split",
    "output_root",
    "max_images",
    "num_shards",
    "shard",
)
_HOW = ("overwrite", "skip_bad", "show", "num_workers", "device", "cache_gb")
_RUN_CONTROL = frozenset((*_WHICH_AND_WHERE, *_HOW))
"""Arguments that choose where, which and how fast, not what is written into a file."""


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


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that all Stage-1 steps share."""
    data = parser.add_argument_group("data")
    data.add_argument("--cityscapes_root", type=Path, help="folder that holds leftImg8bit/")
    data.add_argument("--image_dir", type=Path, help="plain folder of images instead (needs --output_root)")
    data.add_argument("--split", choices=[*SPLITS, "all"], default="train", help="split of leftImg8bit/")
    data.add_argument("--output_root", type=Path, help="where folders are written (else: --cityscapes_root)")
    data.add_argument("--max_images", type=int, help="use only the first N images")
    run = parser.add_argument_group("run")
    run.add_argument("--num_shards", type=int, default=1, help="split the images into N parts ...")
    run.add_argument("--shard", type=int, default=0, help="... and do this part (0 to N-1)")
    run.add_argument("--overwrite", action="store_true", help="redo files that exist")
    run.add_argument("--skip_bad", action="store_true", help="log unreadable images and go on")
    run.add_argument("--show", type=int, default=0, metavar="N", help="write a contact sheet of N images")
    run.add_argument("--num_workers", type=int, default=0, help="worker processes (0: none)")
    run.add_argument("--seed", type=int, default=0, help="seed of everything random")
    run.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (auto: cuda if there is one)")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the common arguments whose help shows defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_common_arguments(parser)
    return parser


def pick_device(args: argparse.Namespace) -> torch.device:
    """Return the device of `--device`.

    Raises:
        UserError: unknown name, or CUDA asked for where there is none.
    """
    if args.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(args.device)
    except RuntimeError:
        raise UserError(f"--device {args.device}: unknown device; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {args.device}: this machine has no CUDA device; use --device cpu")
    return device


def output_root(args: argparse.Namespace) -> Path:
    """Return the folder under which steps write: `--output_root`, else `--cityscapes_root`.

    Raises:
        UserError: neither is given (a plain image folder must not fill up with label files).
    """
    root = args.output_root or args.cityscapes_root
    if root is None:
        raise UserError("--output_root: missing; it is needed with --image_dir")
    return Path(root)


def image_folder(args: argparse.Namespace) -> Path:
    """Return the folder that holds the images (for provenance)."""
    return Path(args.image_dir) if args.image_dir else Path(args.cityscapes_root) / "leftImg8bit"


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


def is_readable(path: Path) -> bool:
    """Return whether a file exists and is complete (PNG and NPY are checked, others must not be empty)."""
    if not path.is_file():
        return False
    if path.suffix == ".png":
        return is_complete_png(path)
    if path.suffix == ".npy":
        try:
            np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError):
            return False
        return True
    return path.stat().st_size > 0


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, atomically."""
    atomic_write(path, lambda temporary: np.save(temporary, array, allow_pickle=False))


def read_npy(path: Path, ndim: int | None = None) -> np.ndarray:
    """Read a .npy array.

    Raises:
        UserError: missing or cut-short file, or another number of dimensions than `ndim`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the step that writes it")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: unreadable array ({error}); generate the file again") from None
    if ndim is not None and array.ndim != ndim:
        raise UserError(
            f"{path}: array of shape {array.shape}, expected {ndim} dimensions; generate it again"
        )
    return array


def run_stage(
    frames: Sequence[Frame],
    process: Callable[[Frame], Any],
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
    earlier run recorded there about ground truth stays while its files stay.

    Args:
        inputs: folders read, for provenance; the images' folder is always added.
        workers: processes (default `--num_workers`); `process` must then be picklable.
        newer_than: a file that the outputs depend on (centroids); outputs older than it are redone.
        show: returns (caption, [(H, W, 3) uint8, ...]) of a frame, for `--show N`.

    Raises:
        UserError: an unreadable frame (without `--skip_bad`), or files of a run with other settings.
    """
    started = time.monotonic()
    oldest = newer_than.stat().st_mtime_ns if newer_than is not None and newer_than.is_file() else 0
    todo = [f for f in frames if args.overwrite or not all(_is_done(o, f, oldest) for o in outputs)]
    summary = Summary(skipped=len(frames) - len(todo))
    for folder in outputs:
        _account(folder, args, script, (image_folder(args), *inputs), weights, uses_ground_truth, summary)
    workers = args.num_workers if workers is None else workers
    results = _serial(todo, process) if workers < 1 or len(todo) < 2 else _pool(todo, process, workers)
    for frame, error in tqdm(results, total=len(todo), desc=script, unit="img", disable=not todo):
        if error is None:
            summary.done += 1
        elif args.skip_bad:
            log.warning("skipped %s: %s", frame.stem, error)
            summary.failures[str(frame.relative / frame.stem)] = str(error)
        else:
            raise error
    _write_failures(outputs, args, summary)
    if args.show and show is not None:
        good = [frame for frame in frames if all(folder.exists(frame) for folder in outputs)]
        write_contact_sheet(outputs[0].directory / "contact_sheet.png", [show(f) for f in good[: args.show]])
    summary.seconds = time.monotonic() - started
    log.info(
        "%s: %d done, %d skipped, %d failed", script, summary.done, summary.skipped, len(summary.failures)
    )
    return summary


def _is_done(folder: Folder, frame: Frame, oldest: int) -> bool:
    return folder.exists(frame) and folder.path(frame).stat().st_mtime_ns >= oldest


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that decide what is written into the files, as JSON holds them."""
    chosen = {key: value for key, value in vars(args).items() if key not in _RUN_CONTROL}
    return json.loads(json.dumps(chosen, default=str))


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
        refuse_other_settings(folder.directory, earlier, args, script)
    fact = uses_ground_truth
    if summary.skipped or (earlier is not None and not args.overwrite):
        fact = any_ground_truth([fact, None if earlier is None else earlier.get("uses_ground_truth")])
    write_provenance(
        folder.directory,
        script=script,
        arguments=vars(args),
        inputs=inputs,
        weights=weights,
        uses_ground_truth=fact,
    )


def refuse_other_settings(
    folder: Path, earlier: dict[str, Any], args: argparse.Namespace, script: str
) -> None:
    """Raise a `UserError` if files in `folder` were made by another script or with other settings."""
    then, now = earlier.get("arguments", {}), settings_of(args)
    if earlier.get("script") != script:
        raise UserError(f"{folder}: written by {earlier.get('script')}; use another --output_root")
    changed = [key for key in now if key in then and then[key] != now[key]]
    if changed:
        was = ", ".join(f"--{key} {then[key]}" for key in changed)
        raise UserError(f"{folder}: holds files made with {was}; repeat that, or add --overwrite")


def _serial(
    frames: Sequence[Frame], process: Callable[[Frame], Any]
) -> Iterator[tuple[Frame, UserError | None]]:
    for frame in frames:
        try:
            process(frame)
        except UserError as error:
            yield frame, error
        else:
            yield frame, None


_process: Callable[[Frame], Any] | None = None


def _start_worker(process: Callable[[Frame], Any]) -> None:
    global _process
    torch.set_num_threads(1)
    _process = process


def _work(frame: Frame) -> UserError | None:
    assert _process is not None
    try:
        _process(frame)
    except UserError as error:
        return error
    return None


def _pool(
    frames: Sequence[Frame], process: Callable[[Frame], Any], workers: int
) -> Iterator[tuple[Frame, UserError | None]]:
    # A fork server starts clean processes: a plain fork would copy the thread pools of torch and OpenCV.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cups.structures", "cv2"])
    with ProcessPoolExecutor(workers, context, _start_worker, (process,)) as pool:
        todo = iter(frames)
        running: dict[Future[UserError | None], Frame] = {}
        try:
            while True:
                while len(running) < 2 * workers and (frame := next(todo, None)) is not None:
                    running[pool.submit(_work, frame)] = frame
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise UserError("--num_workers: a worker process died, likely out of memory; use fewer") from None
        finally:
            for future in running:
                future.cancel()


def _write_failures(outputs: Sequence[Folder], args: argparse.Namespace, summary: Summary) -> None:
    name = "failures.json" if args.num_shards == 1 else f"failures_{args.shard}.json"
    text = json.dumps(summary.failures, indent=2) + "\n"
    for folder in outputs:
        path = folder.directory / name
        if summary.failures:
            atomic_write(path, lambda temporary: temporary.write_text(text))
        else:
            path.unlink(missing_ok=True)


def write_contact_sheet(path: Path, rows: Sequence[tuple[str, list[np.ndarray]]]) -> None:
    """Write rows of (caption, images) as one PNG."""
    from cups.visualization import figure_sheet

    if rows:
        write_png(path, figure_sheet((), [images for _, images in rows], [name for name, _ in rows]))
        log.info("contact sheet: %s", path)
