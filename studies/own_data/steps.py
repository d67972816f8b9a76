"""A run on own images as commands: frames, Stage 1, Stage 2, Stage 3, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cups.backbones.names import TEXTON
from pseudo_labels.settings.depth import STRIDE
from pseudo_labels.steps.stage1 import Command, Stage1Options
from studies.own_data.plan import Plan
from studies.own_data.settings import OwnDataSettings
from studies.toy_settings import REGIONS, SHORT_DEPTH_TRAINING, SMALL_HEADS, TOY_DEPTH_NETWORK
from studies.training_commands import TrainingCommands

STAGE2, STAGE3 = "stage2", "stage3"
DEPTH_PIXELS = {"small": 192 * 384, "full": 320 * 1024}
"""Of the images as the depth network takes them; the full number is SPIdepth's."""
FULL_DEPTH_NETWORK = ("--backbone", "resnet50", "--loss_strides", "4", "2", "1", "--steps", "20000")
"""A random ResNet: weights of ImageNet have seen labels."""


@dataclass(frozen=True)
class OwnDataRun:
    """The commands of a run.

    Attributes:
        pairs: `KEY VALUE` pairs for the trainings.
        further: script of Stage 1 -> flags for it alone.
    """

    settings: OwnDataSettings
    plan: Plan
    pairs: tuple[str, ...] = ()
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """The folder of the run."""
        return self.settings.output

    @property
    def images(self) -> Path:
        """The folder of images that is worked on."""
        return self.output / "frames" if self.plan.video else self.settings.input

    @property
    def trains(self) -> bool:
        """Whether the run makes labels and trains Stage 2."""
        return self.settings.checkpoint is None

    @property
    def checkpoint(self) -> Path:
        """The network that predicts."""
        given = self.settings.checkpoint
        return given if given and not self.settings.adapt else self.training.checkpoint(STAGE3, "best")

    @property
    def stage1(self) -> Stage1Options:
        """Stage 1."""
        plan, root = self.plan, self.output / "stage1"
        network = root / "spidepth" if plan.depth == "video" else None
        if plan.depth not in ("video", "published", "none"):
            network = Path(plan.depth)
        return Stage1Options(
            None,
            root,
            image_dir=self.images,
            backbone=plan.backbone,
            seed=self.settings.seed,
            num_workers=self.settings.num_workers,
            k=plan.k,
            train_heads=True,
            source="none" if plan.depth == "none" else "spidepth",
            network=network,
            train_depth=plan.depth == "video",
            labels=self.output / "labels",
            further=self._flags(),
        )

    def _flags(self) -> dict[str, tuple[str, ...]]:
        """Return flags of single scripts; those of the user come last and win."""
        limit = ("--max_images", str(self.settings.max_images)) if self.settings.max_images else ()
        flags: dict[str, tuple[str, ...]] = {
            "train_spidepth": self._depth_training(),
            "generate_depth_spidepth": ("--show", "6"),
            "generate_overclustered_semantics": (
                *(REGIONS if self.plan.backbone == TEXTON else ()),
                "--show",
                "6",
            ),
            "generate_depth_guided_instances": ("--show", "6"),
            "convert_to_cups_format": ("--show", "6"),
        }
        if self.plan.size_name == "small":
            flags["train_cause"] = SMALL_HEADS
        if self.plan.depth == "video" and self.plan.size_name == "small":
            # What so short a training learns is too blurred to propose objects.
            flags["generate_depth_guided_instances"] += ("--proposals", "things")
        scripts = {Path(name).stem for name in (*flags, *self.further, *ALL_IMAGES)}
        return {
            name: (*flags.get(name, ()), *(limit if name in ALL_IMAGES else ()), *self.further.get(name, ()))
            for name in scripts
        }

    def _depth_training(self) -> tuple[str, ...]:
        height, width = depth_feed(self.plan.size, DEPTH_PIXELS[self.plan.size_name])
        small = self.plan.size_name == "small"
        network = (*TOY_DEPTH_NETWORK, *SHORT_DEPTH_TRAINING) if small else FULL_DEPTH_NETWORK
        feed = ("--height", str(height), "--width", str(width), "--crop_bottom", "0")
        return (*network, *feed, "--focal", str(self.plan.focal))

    @property
    def training(self) -> TrainingCommands:
        """Stage 2 and Stage 3."""
        given = (
            ("TRAINING.STEPS", self.settings.steps),
            ("SELF_TRAINING.ROUND_STEPS", self.settings.round_steps),
        )
        pairs = [word for key, value in given if value is not None for word in (key, str(value))]
        # A training measures at its end at least.
        if self.settings.round_steps is not None:
            pairs += ["SELF_TRAINING.VAL_EVERY_N_STEPS", str(self.settings.round_steps)]
        pairs += ["SYSTEM.SEED", str(self.settings.seed)]
        if self.settings.max_images:
            pairs += ["DATA.MAX_IMAGES", str(self.settings.max_images)]
        return TrainingCommands(self.images, self.output, (*pairs, *self.pairs), self.plan.config)

    def commands(self) -> list[Command]:
        """Return the commands of the run, in order."""
        return [
            *self.frame_commands(),
            *(self.stage1.commands() if self.trains else ()),
            *self.training_commands(),
            self.predictions(),
        ]

    def frame_commands(self) -> list[Command]:
        """Bring a video into a folder of images, where something is trained on them."""
        if not self.plan.video or not (self.trains or self.settings.adapt):
            return []
        words = [
            "--input",
            str(self.settings.input),
            "--output",
            str(self.images),
            "--every",
            str(self.plan.every),
        ]
        return [Command("frames", "studies.own_data.frames", tuple(words))]

    def training_commands(self) -> list[Command]:
        """Train Stage 2 and Stage 3, or Stage 3 alone."""
        training, given = self.training, self.settings.checkpoint
        if self.trains:
            return [
                training.stage2("Stage 2", self.output / "labels", STAGE2),
                training.stage3("Stage 3", training.checkpoint(STAGE2), STAGE3),
            ]
        return [training.stage3("Stage 3", given, STAGE3)] if given and self.settings.adapt else []

    def predictions(self) -> Command:
        """Predict on all images, of a video on each frame."""
        words = ["--checkpoint", str(self.checkpoint), "--input", str(self.settings.input)]
        words += ["--output", str(self.output / "predictions")]
        if self.settings.max_images:
            words += ["--max_images", str(self.settings.max_images)]
        return Command("predictions", "predict.py", tuple(words))


ALL_IMAGES = frozenset(
    {
        *("train_cause", "generate_semantic_pseudolabels_cause", "generate_overclustered_semantics"),
        *("train_spidepth", "generate_depth_spidepth", "classify_stuff_things"),
        *("generate_depth_guided_instances", "convert_to_cups_format"),
    }
)
"""Scripts of Stage 1 that a run takes; each takes `--max_images`."""


def depth_feed(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """Return (rows, columns) of about so many pixels in the shape of an image, multiples of 32."""
    height, width = size
    scale = (pixels / (height * width)) ** 0.5
    rows, columns = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (height, width))
    return rows, columns
