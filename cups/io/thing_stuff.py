"""The file beside labels that says which of their classes are things: everyone who asks reads it here."""

from __future__ import annotations

from pathlib import Path

from cups.errors import UserError
from cups.io.files import read_json
from cups.structures import ThingStuffSplit

LISTS = ("things", "stuffs")
NOTHING_FOUND = "nothing_found"
"""Key that says why a split is worth nothing, where it is."""
SEED_LISTS = ("thing_ids", "stuff_ids")
"""The lists as earlier versions of the pipeline named them."""


def read_split(path: Path, fix: str = "run pseudo_labels/classify_stuff_things.py") -> ThingStuffSplit:
    """Read `{"things": [...], "stuffs": [...]}`, or the `thing_ids` and `stuff_ids` of a `stuff_things.json`.

    Both keep the order of the file.

    Args:
        fix: what a message tells to do.

    Raises:
        UserError: missing file, invalid JSON, missing lists, or a class in both.
    """
    content = read_json(path, fix)
    try:
        names = SEED_LISTS if SEED_LISTS[0] in content else LISTS
        things, stuffs = (tuple(map(int, content[name])) for name in names)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: is not a thing/stuff split; {fix}") from None
    if both := set(things) & set(stuffs):
        raise UserError(f"{path}: class {min(both)} is both thing and stuff; keep it in one list")
    return ThingStuffSplit(things, stuffs)
