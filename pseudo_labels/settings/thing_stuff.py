"""Settings of the step that tells things from stuff."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cups.allowed import CLUSTERS, COUNT, FRACTION, WORKERS, within
from cups.io.file_names import SPLIT_FILE
from pseudo_labels.settings.groups import Outlines, Semantics
from pseudo_labels.settings.outlines import OUTLINES, by_kind
from pseudo_labels.steps.flags import flag
from pseudo_labels.steps.options import OutputRoot, WholeRun


@dataclass(frozen=True)
class StatisticRun(WholeRun, OutputRoot):
    """Run."""

    num_workers: int = flag(0, "worker processes (0: none)", decides=False, allowed=WORKERS)


@dataclass(frozen=True)
class ThingStuffSettings(Outlines, Semantics):
    """Choice of the things."""

    grad_threshold: float | None = flag(
        None,
        f"log-depth step between two surfaces: 0.1 = 10 %% (default: {by_kind('tell')})",
        allowed=within(above=0, most=1000),
    )
    num_semantic_classes: int | None = flag(
        None,
        "number of pseudo-classes (default: what the folder says, or the highest class found, plus one)",
        allowed=CLUSTERS,
    )
    output_json: Path | None = flag(
        None, f"where to write (default: {SPLIT_FILE} in the semantic folder)", decides=False
    )
    sample: int = flag(500, "look at N evenly spread frames at most", metavar="N", allowed=COUNT)
    threshold: float = flag(0.4, "score from which a class is a thing", allowed=FRACTION)
    num_things: int | None = flag(None, "take this many of the best instead", allowed=CLUSTERS)
    no_depth: bool = flag(
        False, "tell by where regions lie in the image: for cameras that look ahead, where there is no depth"
    )
    accept_nothing: bool = flag(
        False,
        "go on where no class is a thing, or most frames show no street (else: exit code 3)",
        decides=False,
    )

    def for_depth(self, source: str) -> ThingStuffSettings:
        """Return these settings with the outlines decided by the kind of depth (of `OUTLINES`)."""
        defaults = OUTLINES[source]
        step = defaults.tell if self.grad_threshold is None else self.grad_threshold
        blur = defaults.blur if self.depth_blur is None else self.depth_blur
        return replace(self, grad_threshold=step, depth_blur=blur)
