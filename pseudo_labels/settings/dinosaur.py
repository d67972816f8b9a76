"""Settings of DINOSAUR: its training, and the instances that are made of its slots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cups.backbones.names import DEFAULT_DINOV3, TEXTON, is_own
from cups.errors import UserError
from pseudo_labels.settings.feature_choice import Backbone, TrainedBackbone
from pseudo_labels.settings.groups import Batch, Found, Seed
from pseudo_labels.settings.outlines import LEAST_AREA
from pseudo_labels.settings.training import Training
from pseudo_labels.steps.flags import Settings, flag, other_default, require_at_least
from pseudo_labels.steps.folders import INSTANCE_PREFIX, SLOT_METHOD, instance_folder

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

    min_area: int = flag(LEAST_AREA["log"], "pixels of a 512-row image; smaller instances are dropped")
    dilation: int | None = flag(
        None, "reach when dropped slivers are given to neighbours, pixels of a 512-row image (default: all)"
    )
    proposals: str = flag(
        "classes",
        "cut slots by each thing class, by their union, or not (semantics then only choose)",
        choices=SLOT_PROPOSALS,
    )
    min_thing_share: float = flag(
        0.3, "with slots: least share of thing pixels in one (0: without semantics)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "min_area")
        require_at_least(0, self, "dilation")
        if not 0 <= self.min_thing_share <= 1:
            raise UserError(f"`min_thing_share` {self.min_thing_share}: must lie in 0-1")

    @property
    def needs_semantics(self) -> bool:
        """Whether instances depend on semantics at all."""
        return self.proposals != "slots" or self.min_thing_share > 0


@dataclass(frozen=True)
class SlotInstanceSettings(SlotSettings, Found, Seed, TrainedBackbone, Batch):
    """Instances by slots."""

    batch_size: int = flag(4, "frames of one token grid that the network takes at once", decides=False)
    checkpoint: Path | None = flag(None, "dinosaur.pth (default: where train_dinosaur.py writes it)")
    num_slots: int | None = flag(None, "slots per frame (default: as in training)")
    method_name: str | None = flag(
        None, f"output pseudo_instance_{{NAME}} (default: {SLOT_METHOD}_... of the semantics)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_slots")

    @property
    def folder(self) -> str:
        """Name of the output folder."""
        if self.method_name is not None or not self.needs_semantics:
            return INSTANCE_PREFIX + (self.method_name or SLOT_METHOD)
        return instance_folder(SLOT_METHOD, self.semantic_subdir)


@dataclass(frozen=True)
class TrainDinosaurSettings(Backbone, Training):
    """Slot attention."""

    LEAST_STEPS: ClassVar[int] = 0

    backbone: str = other_default(Backbone, "backbone", DEFAULT_DINOV3)
    crop: tuple[float, float] = flag(
        (0.8, 0.8), "size of random crops, in shares of the token grid", metavar=("HEIGHT", "WIDTH")
    )
    standardize: str = flag(
        "auto", "features by mean and deviation of each channel (auto: texton and own)", choices=SWITCH
    )
    num_slots: int = flag(30, "slots")
    slot_dim: int = flag(256, "channels of a slot")
    iterations: int = flag(3, "iterations of slot attention")
    decoder_dim: int = flag(2048, "hidden width of the decoder")
    decoder_layers: int = flag(3, "hidden layers of the decoder")
    position_grid: tuple[int, int] | None = flag(
        None,
        "learned positions of the decoder, interpolated (default: one per token; fewer learn faster)",
        metavar=("ROWS", "COLUMNS"),
    )
    encode_position: str = flag(
        "auto", "tell the slots where a token is (auto: texton and own, which do not)", choices=SWITCH
    )
    steps: int = flag(0, "optimisation steps (0: as many as `epochs` make)")
    epochs: int = flag(
        200, f"times that all images are seen where `steps` is 0; at least {LEAST_STEPS} steps are made"
    )
    batch_size: int = other_default(Training, "batch_size", 16)
    lr: float = other_default(Training, "lr", 4e-4)
    clip: float = other_default(Training, "clip", 1.0)
    warm_up: float = flag(0.02, "linear warm-up, share of the steps")
    half_life: float = flag(0.2, "of the rate after warm-up, share of the steps")
    decode_tokens: int = flag(256, "tokens reconstructed per image and step (0: all)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, self, "num_slots", "slot_dim", "iterations", "decoder_dim", "decoder_layers")
        require_at_least(1, self, "epochs")
        require_at_least(0, self, "warm_up", "decode_tokens")
        if min(self.position_grid or (1,)) < 1:
            raise UserError("`position_grid`: both sides must be at least 1")
        if not all(0 < share <= 1 for share in self.crop):
            raise UserError(f"`crop` {self.crop[0]} {self.crop[1]}: shares must be above 0 and at most 1")
        if self.half_life <= 0:
            raise UserError(f"`half_life` {self.half_life}: must be above 0")

    def steps_over(self, images: int) -> int:
        """Return the steps of a training on so many images."""
        epochs = -(-self.epochs * images // (self.batch_size * self.num_gpus))
        return self.steps or max(LEAST_STEPS, epochs)

    def is_on(self, switch: str) -> bool:
        """Return whether `standardize` or `encode_position` is on for the backbone."""
        value = getattr(self, switch)
        return value == "on" or (value == "auto" and (self.backbone == TEXTON or is_own(self.backbone)))
