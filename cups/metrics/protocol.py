"""Evaluation protocols: what a number means. Every result is printed with one line that says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from cups.defaults import NUM_CLASSES, VOID_RULE
from cups.taxonomy import ClassSet, chosen_classes

VoidRule = Literal["standard", "upstream"]
Matching = Literal["separate", "joint", "one-to-one", "many-to-one", "named"]
Task = Literal["panoptic", "semantic"]

VOID_RULES: tuple[VoidRule, ...] = get_args(VoidRule)
"""`standard`: Kirillov et al., "Panoptic Segmentation" (CVPR 2019), as panopticapi and cityscapesScripts
count: a predicted void pixel is an error. `upstream`: as torchmetrics counts and CUPS (CVPR 2025) publishes:
it is free; and in the matching of panoptic results a class that does not occur may take a cluster."""

_MATCHING = {
    "separate": "Hungarian matching (things and stuff matched apart, left-over clusters to their best class)",
    "joint": "Hungarian matching (things and stuff matched together, left-over clusters to their best class)",
    "one-to-one": "one-to-one Hungarian matching (left-over clusters count as void)",
    "many-to-one": "many-to-one matching (each cluster to the class it overlaps most)",
    "named": "classes by name (no matching)",
}


def check_void_rule(rule: str) -> None:
    """Raise ValueError when `rule` is neither "standard" nor "upstream"."""
    if rule not in VOID_RULES:
        raise ValueError(f"void rule {rule!r} is unknown; choose one of {', '.join(VOID_RULES)}")


@dataclass(frozen=True)
class Protocol:
    """All that changes a reported number besides the model.

    Attributes:
        name: key in `NAMED`, or a name of your own.
        num_classes: 27, 19 or 7, or those of `class_file`.
        size: (H, W) in pixels at which predictions and ground truth are compared; None is the size of the
            labels.
        crop: side of a centre crop after the short side was resized to it (STEGO's semantic protocol); None
            is none.
        scale: factor by which images and labels were resized before anything else.
        class_file: names the classes where they are not Cityscapes'; empty for those.
        matching: of clusters to classes. `separate` and `joint` are Hungarian, left-over clusters to their
            best class, things and stuff apart or not; the others suit the semantic task alone.
        void_rule: see `VOID_RULES`.
        task: `panoptic` (PQ, SQ, RQ, mIoU, accuracy) or `semantic` (mIoU, accuracy).
        fitted_on: the images that the matching was fitted on, where they are not the ones scored.
    """

    name: str
    num_classes: int = NUM_CLASSES
    size: tuple[int, int] | None = None
    crop: int | None = None
    matching: Matching = "separate"
    void_rule: VoidRule = VOID_RULE
    task: Task = "panoptic"
    fitted_on: str = ""
    scale: float = 1.0
    class_file: str = ""

    def __post_init__(self) -> None:
        """Refuse values that no evaluator understands."""
        if (count := self.classes.num_classes) != self.num_classes:
            raise ValueError(f"{self.class_file} holds {count} classes, not {self.num_classes}")
        check_void_rule(self.void_rule)
        if self.matching not in _MATCHING:
            raise ValueError(f"matching {self.matching!r} is unknown; choose one of {', '.join(_MATCHING)}")
        if self.task not in get_args(Task):
            raise ValueError(f"task {self.task!r} is unknown; choose one of {', '.join(get_args(Task))}")
        lengths = (*(self.size or ()), *(() if self.crop is None else (self.crop,)))
        if min(lengths, default=1) < 1:
            raise ValueError(f"size {self.size} and crop {self.crop} must be positive")
        if not self.scale > 0:
            raise ValueError(f"scale {self.scale} must be positive")

    @property
    def classes(self) -> ClassSet:
        """The evaluated classes."""
        return chosen_classes(self.num_classes, self.class_file)

    def __str__(self) -> str:
        """One line to print with every result."""
        size = "full resolution" if self.scale == 1 else f"scale {self.scale:g}"
        if self.size is not None:
            size = f"{self.size[0]}x{self.size[1]}"
        if self.crop is not None:
            size = f"centre crop {self.crop}x{self.crop} of {size}"
        fitted = f" fitted on {self.fitted_on}" if self.fitted_on else ""
        named = f" of {self.class_file}" if self.class_file else ""
        return (
            f"{self.name}: {self.task}, {self.num_classes} classes{named}, {size}, "
            f"{_MATCHING[self.matching]}{fitted}, {self.void_rule} void rule"
        )


NAMED: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # CUPS (Hahn et al., CVPR 2025), the protocol of its published 27.8.
        Protocol("cups-panoptic-19", void_rule="upstream"),
        Protocol("panoptic-19"),
        # What CUPS watches while it trains.
        Protocol("cups-panoptic-27-train", num_classes=27, size=(512, 1024), void_rule="upstream"),
        # STEGO (Hamilton et al., ICLR 2022), the protocol of unsupervised semantic segmentation papers.
        Protocol("semantic-27-crop320", num_classes=27, crop=320, matching="joint", task="semantic"),
        Protocol("toy-19"),
    )
}
