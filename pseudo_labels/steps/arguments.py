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
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SCHEDULING = frozenset(
    {
        "num_shards",
        "shard",
        "run_id",
        "executor",
        "executor_folder",
        *(f"slurm_{name}" for name in ("partition", "account", "time", "gpus", "cpus", "mem")),
    }
)
"""Arguments that say on which machine a frame is worked on: no trace of them is left in the outputs."""
_RUN_CONTROL = frozenset((*_WHICH_AND_WHERE, *_HOW)) | SCHEDULING
"""Arguments that choose where, which and how fast, not what is written into a file."""


def add_common_arguments(parser: argparse.ArgumentParser, shards: bool = True) -> None:
    """Add the flags that all Stage-1 steps share.

    shards: whether parts of the images can be worked on apart; a training, a statistic needs them all.
    """
    data = parser.add_argument_group("data")
    data.add_argument("--cityscapes_root", type=Path, help="folder that holds leftImg8bit/")
    data.add_argument("--image_dir", type=Path, help="plain folder of images instead (needs --output_root)")
    data.add_argument("--split", choices=[*SPLITS, "all"], default="train", help="split of leftImg8bit/")
    data.add_argument("--output_root", type=Path, help="where folders are written (else: --cityscapes_root)")
    data.add_argument("--max_images", type=int, help="use only the first N images")
    run = parser.add_argument_group("run")
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
    if shards:
        _add_executor_arguments(parser)
    else:
        parser.set_defaults(num_shards=1, shard=0, executor="none", run_id=None)


def _add_executor_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("shards")
    group.add_argument("--num_shards", type=int, default=1, help="split the images into N parts")
    group.add_argument("--shard", type=int, default=0, help="without --executor: do this part (0 to N-1)")
    group.add_argument(
        "--executor",
        choices=("none", "local", "slurm"),
        default="none",
        help="run all parts: as processes of this machine, or as jobs of a SLURM cluster",
    )
    group.add_argument(
        "--executor_folder", type=Path, help="jobs and logs (default: submitit/ under the output root)"
    )
    group.add_argument("--run_id", help=argparse.SUPPRESS)
    group.add_argument("--slurm_partition", help="partition of the jobs (default: the cluster's)")
    group.add_argument("--slurm_account", help="account of the jobs (default: the user's)")
    group.add_argument("--slurm_time", type=int, default=240, help="minutes per job; then it is queued again")
    group.add_argument("--slurm_gpus", type=int, default=0, help="GPUs per job")
    group.add_argument("--slurm_cpus", type=int, default=4, help="processor cores per job")
    group.add_argument("--slurm_mem", type=int, default=32, help="GB of memory per job")


class Submission(UserError):
    """Raised by a parser that read `--executor`; `executor.run_script` then starts the shards.

    So every flag of a step is checked before anything is submitted, and steps need not know of executors.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(f"--executor {arguments.executor}: this step runs as one process; leave it out")
        self.arguments = arguments


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default where there is one that the text does not tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default is None or "(default" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


class _Parser(argparse.ArgumentParser):
    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        parsed = super().parse_args(args, namespace)
        if parsed.executor != "none":
            raise Submission(parsed)
        return parsed


def make_parser(description: str, shards: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the common arguments (see `add_common_arguments`) whose help shows defaults."""
    parser = _Parser(description=description, formatter_class=_HelpFormatter)
    add_common_arguments(parser, shards)
    return parser


def add_batch_argument(
    parser: argparse.ArgumentParser, batch_size: int, what: str = "images of one size"
) -> None:
    """Add `--batch_size`, for steps that run a network (`workers.Batched`); they use a GPU and threads."""
    parser.set_defaults(num_workers=4, slurm_gpus=1)
    parser.add_argument(
        "--batch_size", type=_batch_size, default=batch_size, help=f"{what} that the network takes at once"
    )


def _batch_size(text: str) -> int:
    size = int(text)
    if size < 1:
        raise UserError(f"--batch_size {size}: must be at least 1")
    return size


def settings_of(args: argparse.Namespace, ignore: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments that decide what is written into the files, as JSON holds them."""
    skipped = _RUN_CONTROL | set(ignore)
    chosen = {key: value for key, value in vars(args).items() if key not in skipped}
    return json.loads(json.dumps(chosen, default=str))


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that `provenance.json` keeps: the same from one process and from many."""
    return {key: value for key, value in vars(args).items() if key not in SCHEDULING}


def require_at_least_one(args: argparse.Namespace, *names: str) -> None:
    """Raise a `UserError` for the first of these arguments that is given and below 1."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")


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


def add_precision_argument(group: argparse._ActionsContainer) -> None:
    """Add `--precision`, for steps that run a network without training it."""
    group.add_argument(
        "--precision",
        choices=["auto", *PRECISIONS],
        default="auto",
        help="numbers inside the backbone (auto: bf16 or fp16 on a GPU, fp32 on a CPU)",
    )


def pick_precision(args: argparse.Namespace, device: torch.device) -> torch.dtype:
    """Return the number format of `--precision` on a device."""
    if args.precision != "auto":
        return PRECISIONS[args.precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


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


def add_outline_arguments(group: argparse._ActionsContainer, grad_threshold: float) -> None:
    """Add `--grad_threshold` and `--depth_blur`, for steps that look for outlines in depth."""
    group.add_argument(
        "--grad_threshold",
        type=float,
        default=grad_threshold,
        help="log-depth step between two surfaces: 0.1 = 10 %%, 0.7 = doubling",
    )
    add_blur_argument(group)


def add_blur_argument(group: argparse._ActionsContainer) -> None:
    """Add `--depth_blur`."""
    group.add_argument(
        "--depth_blur",
        type=float,
        default=0.0,
        help="of object proposals: share of the height over which outlines are blurred (stereo 0)",
    )


def check_outlines(args: argparse.Namespace) -> None:
    """Refuse impossible values of `add_outline_arguments`."""
    if args.grad_threshold <= 0:
        raise UserError(f"--grad_threshold {args.grad_threshold}: must be positive")
    check_blur(args)


def check_blur(args: argparse.Namespace) -> None:
    """Refuse impossible values of `add_blur_argument`."""
    if not 0 <= args.depth_blur <= 0.2:
        raise UserError(f"--depth_blur {args.depth_blur}: must lie in 0-0.2")


def add_splitting_arguments(group: argparse._ActionsContainer) -> None:
    """Add the flags of `SplitSettings` other than threshold, least area and blur."""
    group.add_argument(
        "--dilation", type=int, default=3, help="reach in pixels when cut pixels are given back"
    )
    group.add_argument("--sigma", type=float, default=1.0, help="depth smoothing, pixels of a 512-row image")
    group.add_argument(
        "--proposals",
        choices=("classes", "things", "objects"),
        default="classes",
        help="split each thing class (sharp semantics), their union, or let depth propose (blurred ones)",
    )
    group.add_argument(
        "--min_thing_share", type=float, default=0.3, help="with objects: least share of thing pixels in one"
    )


def check_splitting(args: argparse.Namespace) -> None:
    """Refuse impossible values of `add_splitting_arguments`."""
    if args.sigma < 0:
        raise UserError(f"--sigma {args.sigma}: must not be negative")
    if args.dilation < 0:
        raise UserError(f"--dilation {args.dilation}: must not be negative")
    if not 0 < args.min_thing_share <= 1:
        raise UserError(f"--min_thing_share {args.min_thing_share}: must be above 0, at most 1")
