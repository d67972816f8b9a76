"""The command line that all Stage-1 steps share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cups.errors import UserError

SPLITS = ("train", "val", "test", "train_extra")
_WHICH_AND_WHERE = ("cityscapes_root", "image_dir", "split", "output_root", "max_images")
_HOW = ("overwrite", "skip_bad", "show", "num_workers", "device", "cache_gb")
SCHEDULING = frozenset({"num_shards", "shard"})
"""Arguments that say on which machine a frame is worked on: no trace of them is left in the outputs."""
_RUN_CONTROL = frozenset((*_WHICH_AND_WHERE, *_HOW)) | SCHEDULING
"""Arguments that choose where, which and how fast, not what is written into a file."""


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
    run.add_argument(
        "--num_workers",
        type=int,
        default=0,
        help="worker processes, or threads that read and write around a network (0: none)",
    )
    run.add_argument("--seed", type=int, default=0, help="seed of everything random")
    run.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (auto: cuda if there is one)")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the common arguments whose help shows defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_common_arguments(parser)
    return parser


def add_batch_argument(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Add `--batch_size`, for steps that run a network (`workers.Batched`)."""
    parser.set_defaults(num_workers=4)
    parser.add_argument(
        "--batch_size", type=int, default=batch_size, help="images of one size that the network takes at once"
    )


def settings_of(args: argparse.Namespace, ignore: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments that decide what is written into the files, as JSON holds them."""
    skipped = _RUN_CONTROL | set(ignore)
    chosen = {key: value for key, value in vars(args).items() if key not in skipped}
    return json.loads(json.dumps(chosen, default=str))


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
