"""All trainings and steps as commands, so small that each takes seconds: what `studies.soak` kills."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from pseudo_labels.steps.stage1 import Command
from studies.commands import toy_streets
from studies.demo_steps import toy_stage1
from studies.toy_settings import TOY_DEPTH_NETWORK
from studies.training_commands import TrainingCommands

K = 12
EACH = ("--save_minutes", "0")
"""Trainings save each step: a kill within one finds a state to go on from."""
HEADS = (
    *("--codebook_steps", "8", "--head_steps", "8", "--probe_steps", "8", "--batch_size", "2"),
    *("--codebook_size", "32", "--projection_dim", "16", "--hidden_dim", "16", *EACH),
)
DEPTH = (*TOY_DEPTH_NETWORK, "--loss_strides", "4", "--steps", "6", "--batch_size", "2", *EACH)
REFINE = ("--crop", "96", "--batch_size", "2", "--steps", "8", *EACH)
SLOTS = (
    *("--num_slots", "4", "--slot_dim", "16", "--decoder_dim", "32", "--steps", "8", "--batch_size", "2"),
    *EACH,
)
BACKBONE = (
    *("--architecture", "resnet18", "--height", "96", "--crop", "64", "--steps", "6", "--batch_size", "2"),
    *("--projection_dim", "16", "--local_dim", "8", *EACH),
)
TRAINING = (
    *("TRAINING.STEPS", "6", "TRAINING.VAL_EVERY_N_STEPS", "4", "TRAINING.SAVE_EVERY_N_MINUTES", "0"),
    *("TRAINING.WARMUP_STEPS", "2", "TRAINING.LOG_MEDIA_N_STEPS", "3", "DATA.CROP_RESOLUTION", "(96, 192)"),
    *("SELF_TRAINING.ROUND_STEPS", "2", "SELF_TRAINING.ROUNDS", "3", "SELF_TRAINING.SELECT_FRAMES", "1"),
    *("SELF_TRAINING.VAL_EVERY_N_STEPS", "4", "SYSTEM.NUM_WORKERS", "1", "SYSTEM.ACCELERATOR", "cpu"),
)


def soak_steps(folder: Path) -> list[Command]:
    """Return the commands, in order; all that they read and write lies in `folder`."""
    small = {
        "train_cause": HEADS,
        "train_spidepth": DEPTH,
        "train_refine_net": REFINE,
        "train_dinosaur": SLOTS,
        "train_backbone": BACKBONE,
        "generate_depth_spidepth": ("--device", "cpu"),
    }
    # Stereo, for a network of so few steps sees no street; it is trained and used all the same, elsewhere.
    options = toy_stage1(folder, workers=2, seed=0, depth="disparity")
    options = replace(options, further={**options.further, **small}, k=K, refine=True, with_features=True)
    network = folder / "spidepth"
    learned = replace(options, output_root=folder / "learned", further=small)
    training = TrainingCommands(options.root, folder, ("SYSTEM.SEED", "0", *TRAINING))
    commands = [
        toy_streets(options.root, frames=(6, 2)),
        *options.commands(),
        options.depth_network(network),
        learned.depth("all", "--checkpoint_dir", str(network), name="learned depth"),
        options.slots("texton"),
        options.slot_instances("all", options.semantics, "--method_name", "slots", name="slot instances"),
    ]
    if find_spec("lightly") is not None:
        where = ("--checkpoint_dir", str(folder / "backbone"))
        commands.append(options.command("own backbone", "train_backbone", "train", *where))
    return [
        *commands,
        training.stage2("Stage 2", options.labels or folder, "stage2"),
        training.stage3("Stage 3", training.checkpoint("stage2"), "stage3"),
    ]
