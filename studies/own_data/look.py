"""The look before a run on own images: what it will do, how long it will take, how much disk it needs."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import torch
from torch.utils.flop_counter import FlopCounterMode
from yacs.config import CfgNode

from cups.builders.stage2 import network_of
from cups.builders.stage3 import teacher_views
from cups.config import build_config
from cups.errors import UserError, as_flags
from cups.model import panoptic_cascade_mask_r_cnn
from pseudo_labels.preflight.cost import TRAINING, network_seconds
from pseudo_labels.preflight.needs import Need
from pseudo_labels.preflight.report import amount, examine, free_bytes, table
from pseudo_labels.steps.stage1 import Command
from studies.own_data.steps import OwnDataRun

FRAME_BYTES, PREDICTION_BYTES = 0.4, 1.2
"""Bytes a pixel: of a JPEG frame, and of a map with its overlay. Measured on toy streets and photographs."""
ADAM = 3
"""Copies of the weights in a checkpoint: themselves and two moments."""
FLOAT = 4
THING_SHARE = 0.15
"""Of the clusters, before anybody knows."""


def look(run: OwnDataRun) -> str:
    """Return the plan in words and its table of steps, time and disk.

    Raises:
        UserError: all that is missing, one line each, the room on the disk included.
    """
    commands = run.commands()
    needs = [*_frame_needs(run), *(examine(_readable_now(run)) if run.trains else []), *_network_needs(run)]
    by_name = {need.name: need for need in needs}
    needs = [by_name.get(command.name, Need("", name=command.name)) for command in commands]
    problems = list(dict.fromkeys(line for need in needs for line in need.problems))
    needed, free = sum(need.size for need in needs), free_bytes(run.output)
    if needed > free:
        problems.append(f"{run.output}: {amount(free)} free, {amount(needed)} needed; give another `output`")
    if problems:
        raise UserError("\n".join(problems))
    seconds = {need.name: network_seconds(need.flops, need.device, need.precision) for need in needs}
    return "\n".join([headline(run), *map(as_flags, run.plan.notes), "", table(needs, seconds, free)])


def headline(run: OwnDataRun) -> str:
    """Return in a line what is worked on."""
    height, width = run.plan.size
    kind = "frames of video and images" if run.plan.video else "images"
    return f"{len(run.plan.images)} {kind} in {run.settings.input}, the middle one {width} x {height}"


def image_count(run: OwnDataRun) -> int:
    """Return the number of images that labels are made for."""
    count = ceil(len(run.plan.images) / run.plan.every)
    return min(count, run.settings.max_images or count)


def _readable_now(run: OwnDataRun) -> list[Command]:
    """Return the commands of Stage 1 as they can be examined before a video is taken apart."""
    if not run.plan.video:
        return run.stage1.commands()
    settings = replace(run.settings, max_images=image_count(run))
    there = replace(replace(run, settings=settings).stage1, image_dir=run.settings.input)
    return there.commands()


def _frame_needs(run: OwnDataRun) -> list[Need]:
    pixels = run.plan.size[0] * run.plan.size[1]
    count = image_count(run)
    return [Need(f"{count} images", size=round(count * pixels * FRAME_BYTES), name="frames")]


def _network_needs(run: OwnDataRun) -> list[Need]:
    """Return the needs of both trainings and of the predictions, whether or not the run has them."""
    config = build_config(run.plan.config, run.training.pairs)
    forward, weights = pass_flops(config, run.plan.k)
    training, keys = config.TRAINING, config.SELF_TRAINING
    samples = training.BATCH_SIZE * training.ACCUMULATE_GRAD_BATCHES
    checkpoint = weights * FLOAT * ADAM
    second = keys.ROUNDS * keys.ROUND_STEPS
    views = teacher_views(config).passes
    count, pixels = len(run.plan.images), run.plan.size[0] * run.plan.size[1]
    count = min(count, run.settings.max_images or count)
    return [
        Need(
            f"{training.STEPS} steps of {samples} images",
            flops=training.STEPS * samples * TRAINING * forward,
            size=checkpoint * (1 + training.STEPS // training.VAL_EVERY_N_STEPS),
            name="Stage 2",
        ),
        Need(
            f"{keys.ROUNDS} rounds of {keys.ROUND_STEPS} steps of {samples} images",
            flops=second * samples * (TRAINING + views) * forward,
            size=checkpoint * (2 + keys.ROUNDS),
            name="Stage 3",
        ),
        Need(
            f"{count} images",
            flops=count * forward,
            size=round(count * pixels * PREDICTION_BYTES),
            name="predictions",
        ),
    ]


def pass_flops(config: CfgNode, classes: int) -> tuple[int, int]:
    """Return the floating-point operations of one training image through the network, and its weights.

    Counted by one pass on random pixels at the size of the crop; half the rows and columns, four times the
    work, where that is large: a pass takes seconds on a CPU.
    """
    things = max(1, round(THING_SHARE * classes))
    model = panoptic_cascade_mask_r_cnn(things, classes - things + 1, **network_of(config)).eval()
    height, width = config.DATA.CROP_RESOLUTION
    shrink = 2 if height * width > 400_000 else 1
    image = torch.rand(3, height // shrink, width // shrink)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model([{"image": image}])
    weights = sum(parameter.numel() for parameter in model.parameters())
    return int(counter.get_total_flops()) * shrink**2, weights
