"""Which of CAUSE's 27 classes each row of a cluster probe is, where the heads say so.

Rows have no order of their own: they start at random, are trained by modularity, and are matched to classes
anew by every evaluation (Kim et al., 2024). Row i is class i only where `settings.json` of the heads says
which row is which.
"""

from __future__ import annotations

from pathlib import Path

from cups.errors import UserError
from cups.io.files import read_json

KEY = "class_order"
"""In `settings.json`: the class, 0-26, of each row of the probe."""
NUM_CLASSES = 27


def class_order(settings: Path) -> tuple[int, ...] | None:
    """Return the class of each probe row, None where the heads do not say it.

    Args:
        settings: `settings.json` of the heads; published ones have none.

    Raises:
        UserError: a list that does not name each of the 27 classes once.
    """
    stored = read_json(settings, "train the heads again").get(KEY) if settings.is_file() else None
    if stored is None:
        return None
    if not isinstance(stored, list) or sorted(map(str, stored)) != sorted(map(str, range(NUM_CLASSES))):
        raise UserError(f"{settings}: {KEY} must name each of the classes 0-26 once; mend or remove it")
    return tuple(map(int, stored))
