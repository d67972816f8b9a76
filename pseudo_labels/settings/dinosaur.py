"""Settings of DINOSAUR: its training, and the instances that are made of its slots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import BATCH, COUNT, FRACTION, NAME, ROWS, SHARE, SIDE, WHOLE, WIDTH, whole, within
from cups.backbones.names import DEFAULT_DINOV3, TEXTON, is_own
from pseudo_labels.settings.feature_choice import Backbone, TrainedBackbone
from pseudo_labels.settings.groups import Batch, Found, Seed
from pseudo_labels.settings.outlines import LEAST_AREA
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import Settings, flag, other_default
from pseudo_labels.steps.folders import INSTANCE_PREFIX, SLOT_METHOD, instance_folder

SLOTS = whole(1, 10_000)
SLOT_PROPOSALS = ("classes", "things", "slots")
SWITCH = ("auto", "on", "off")
LEAST_STEPS = 5000
"""Of a default training: slots do not come apart in fewer, however few the images."""


@dataclass(frozen=True)
class SlotSettings(Settings):
    """How slots become instances.

    `proposals` says what a slot is cut by. "classes": the borders of the thing classes. "things": the border
    of their union, for overclustered semantics in which one object is made of several classes. "slots":
    nothing; components of the slots keep their outline, and those with thing pixels on at least
    `min_thing_share` of their area are kept (at 0 all are, and semantics are not looked at).
    """

    min_area: int = flag(
        LEAST_AREA["log"], "pixels of a 512-row image; smaller instances are dropped", allowed=COUNT
    )
    dilation: int | None = flag(
        None,
        "reach when dropped slivers are given to neighbours, pixels of a 512-row image (default: all)",
        allowed=ROWS,
    )
    proposals: str = flag(
        "classes",
        "cut slots by each thing class, by their union, or not (semantics then only choose)",
        choices=SLOT_PROPOSALS,
    )
    min_thing_share: float = flag(
        0.3, "with slots: least share of thing pixels in one (0: without semantics)", allowed=FRACTION
    )

    @property
    def needs_semantics(self) -> bool:
        """Whether instances depend on semantics at all."""
        return self.proposals != "slots" or self.min_thing_share > 0


@dataclass(frozen=True)
class SlotInstanceSettings(SlotSettings, Found, Seed, TrainedBackbone, Batch):
    """Instances by slots."""

    batch_size: int = flag(
        4,
        "frames of one token grid that the network takes at once on a GPU; on a CPU one",
        decides=False,
        allowed=BATCH,
    )
    checkpoint: Path | None = flag(None, "dinosaur.pth (default: where train_dinosaur.py writes it)")
    num_slots: int | None = flag(None, "slots per frame (default: as in training)", allowed=SLOTS)
    method_name: str | None = flag(
        None, f"output pseudo_instance_{{NAME}} (default: {SLOT_METHOD}_... of the semantics)", allowed=NAME
    )

    @property
    def folder(self) -> str:
        """Name of the output folder."""
        if self.method_name is not None or not self.needs_semantics:
            return INSTANCE_PREFIX + (self.method_name or SLOT_METHOD)
        return instance_folder(SLOT_METHOD, self.semantic_subdir)


@dataclass(frozen=True)
class TrainDinosaurSettings(Backbone, Training):
    """Slot attention."""

    backbone: str = other_default(Backbone, "backbone", DEFAULT_DINOV3)
    crop: tuple[float, float] = flag(
        (0.8, 0.8),
        "size of random crops, in shares of the token grid",
        metavar=("HEIGHT", "WIDTH"),
        allowed=SHARE,
    )
    standardize: str = flag(
        "auto", "features by mean and deviation of each channel (auto: texton and own)", choices=SWITCH
    )
    num_slots: int = flag(30, "slots", allowed=SLOTS)
    slot_dim: int = flag(256, "channels of a slot", allowed=WIDTH)
    iterations: int = flag(3, "iterations of slot attention", allowed=whole(1, 1000))
    decoder_dim: int = flag(2048, "hidden width of the decoder", allowed=WIDTH)
    decoder_layers: int = flag(3, "hidden layers of the decoder", allowed=whole(1, 1000))
    position_grid: tuple[int, int] | None = flag(
        None,
        "learned positions of the decoder, interpolated (default: one per token; fewer learn faster)",
        metavar=("ROWS", "COLUMNS"),
        allowed=SIDE,
    )
    encode_position: str = flag(
        "auto", "tell the slots where a token is (auto: texton and own, which do not)", choices=SWITCH
    )
    steps: int = flag(0, "optimisation steps (0: as many as `epochs` make)", allowed=WHOLE)
    epochs: int = flag(
        200,
        f"times that all images are seen where `steps` is 0; at least {LEAST_STEPS} steps are made",
        allowed=COUNT,
    )
    batch_size: int = other_default(Training, "batch_size", 16)
    lr: float = other_default(Training, "lr", 4e-4)
    clip: float = other_default(Training, "clip", 1.0)
    warm_up: float = flag(0.02, "linear warm-up, share of the steps", allowed=FRACTION)
    half_life: float = flag(
        0.2, "of the rate after warm-up, share of the steps", allowed=within(above=0, most=1000)
    )
    decode_tokens: int = flag(256, "tokens reconstructed per image and step (0: all)", allowed=WHOLE)

    def steps_over(self, images: int) -> int:
        """Return the steps of a training on so many images."""
        epochs = -(-self.epochs * images // (self.batch_size * self.num_gpus))
        return self.steps or max(LEAST_STEPS, epochs)

    def is_on(self, switch: str) -> bool:
        """Return whether `standardize` or `encode_position` is on for the backbone."""
        value = getattr(self, switch)
        return value == "on" or (value == "auto" and (self.backbone == TEXTON or is_own(self.backbone)))
