"""Which pseudo-classes of training labels are things: as the labels say, or by the published rule."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from cups import defaults
from cups.errors import UserError
from cups.io.file_names import SPLIT_FILE
from cups.io.thing_stuff import read_split
from cups.structures import ThingStuffSplit

log = logging.getLogger(__name__)

NO_THINGS = "classify the labels with things among them, and convert them again"
NO_STUFF = (
    "a network needs a background: give what is no object a pseudo-class of its own instead of void, and "
    "convert the labels again"
)
"""What to do about labels with one side only."""


def thing_stuff_split(all_pixels: Tensor, inside: Tensor, threshold: float) -> ThingStuffSplit:
    """Derive things and stuff from label statistics (CUPS, Hahn et al. 2025).

    The share of each pseudo-class inside instance masks, sorted falling and normalised to sum 1: classes
    above `threshold` are things. Both tuples keep that order. Classes without a pixel come last, as stuff.

    Raises:
        UserError: when no class, or every class, would be a thing.
    """
    share = _shares(all_pixels, inside)
    order = by_thingness(all_pixels, inside, range(len(share)))
    things = tuple(index for index in order if share[index] > threshold)
    stuffs = tuple(index for index in order if share[index] <= threshold)
    if not things or not stuffs:
        cure = f"the shares run from {min(share):.3f} to {max(share):.3f}"
        if len(share) == 1:  # no number divides one class
            cure = NO_THINGS if not things else NO_STUFF
        kind = "things" if not things else "stuff"
        raise UserError(
            f"DATA.THING_STUFF_THRESHOLD is {threshold}: no pseudo-class is left as {kind}; {cure}"
        )
    return ThingStuffSplit(things, stuffs)


def _shares(all_pixels: Tensor, inside: Tensor) -> list[float]:
    ratio = inside.double() / (all_pixels.double() + 1e-6)
    shares: list[float] = (ratio / ratio.sum().clamp(min=1e-12)).tolist()
    return shares


def by_thingness(all_pixels: Tensor, inside: Tensor, classes: range | tuple[int, ...]) -> tuple[int, ...]:
    """Return classes by their falling share of pixels inside instances: the published order of outputs."""
    share = _shares(all_pixels, inside)
    return tuple(sorted(classes, key=lambda index: (-share[index], index)))


def stated_split(folder: Path, num_classes: int) -> ThingStuffSplit | None:
    """Return the split that lies beside training labels, None where there is none.

    Raises:
        UserError: a damaged file, or one that does not put each of `num_classes` into one list.
    """
    path = folder / SPLIT_FILE
    if not path.is_file():
        return None
    split = read_split(path, "convert the labels again")
    if sorted((*split.things, *split.stuffs)) != list(range(num_classes)):
        raise UserError(
            f"{path}: does not name each of the {num_classes} pseudo-classes once; convert the labels again"
        )
    if not split.things or not split.stuffs:
        kind, cure = ("things", NO_THINGS) if not split.things else ("stuff", NO_STUFF)
        raise UserError(f"{path}: no pseudo-class is left as {kind}; {cure}")
    return split


def label_split(
    folder: Path, all_pixels: Tensor, inside: Tensor, threshold: float | None = None
) -> ThingStuffSplit:
    """Return the things and stuff of training labels, in the order of a network's outputs.

    The split beside the labels decides; labels without one (upstream's) are split by the published rule
    with its 0.08.

    Args:
        all_pixels, inside: (K,) pixels of each pseudo-class, all and inside instances.
        threshold: take the published rule with this number, whatever the labels say; warned of.

    Raises:
        UserError: a file that does not fit the labels, or a rule that leaves no thing or no stuff.
    """
    stated = stated_split(folder, len(all_pixels))
    if threshold is None:
        if stated is not None:
            return stated
        threshold = defaults.THING_STUFF_THRESHOLD
        log.info(
            "%s: no %s; things are the pseudo-classes above the published share of %g",
            folder,
            SPLIT_FILE,
            threshold,
        )
        return thing_stuff_split(all_pixels, inside, threshold)
    split = thing_stuff_split(all_pixels, inside, threshold)
    if stated is not None:
        changed = sorted(set(split.things) ^ set(stated.things))
        log.warning(
            "DATA.THING_STUFF_THRESHOLD %g overrides %s: %d of %d pseudo-classes change sides%s",
            threshold,
            folder / SPLIT_FILE,
            len(changed),
            len(all_pixels),
            f" ({' '.join(map(str, changed))})" if changed else "",
        )
    return split


def held_split(
    held: ThingStuffSplit, now: ThingStuffSplit, folder: Path, network: Path, resumed: bool
) -> ThingStuffSplit:
    """Return the split of a trained network, for labels whose own is `now`.

    The outputs of a network keep their meaning as long as it is trained. Labels that were generated anew move
    the statistics a little, and with them the order of the classes.

    Args:
        held: of the network.
        folder: of the labels, for messages.
        network: its checkpoint, for messages.
        resumed: the same run goes on, so that its split holds even where classes have changed sides.

    Raises:
        UserError: labels of other pseudo-classes.
    """
    if sorted((*held.things, *held.stuffs)) != sorted((*now.things, *now.stuffs)):
        total, own = held.pseudo_classes.total, now.pseudo_classes.total
        raise UserError(
            f"{folder}: has {own} pseudo-classes, {network} {total}; use the labels it was trained on"
        )
    changed = sorted(set(now.things) ^ set(held.things))
    moved = f"pseudo-classes {' '.join(map(str, changed))} on other sides"
    if changed and not resumed:
        raise UserError(
            f"{folder}: has {moved} of things and stuff than {network}, so that equal numbers mean "
            "other classes; use the labels it was trained on"
        )
    if now != held:
        log.warning(
            "%s: has %s than when the network was trained; the network's own split of things and stuff holds",
            folder,
            moved if changed else "another order of pseudo-classes",
        )
    return held
