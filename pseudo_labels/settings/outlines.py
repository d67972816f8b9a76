"""How sharp the outlines in each kind of depth are: one table of the defaults of all that cuts along them."""

from __future__ import annotations

from dataclasses import dataclass

STEREO, NETWORK = "stereo", "network"
"""Kinds of depth, as `provenance.json` of a depth folder names them."""
REFERENCE_ROWS = 512
"""Areas and lengths of settings are in pixels of an image with so many rows."""
EDGES = ("log", "linear")


@dataclass(frozen=True)
class OutlineDefaults:
    """Defaults for one kind of depth; steps are natural-log, see `cups.ops.depth_edges`.

    Attributes:
        cut: step that splits thing regions ("classes" and "things").
        propose: step around what depth proposes ("objects").
        tell: the same where proposals tell things from stuff.
        blur: share of the height over which outlines are spread.
        grid: steps that the sweep tries besides the default.
    """

    cut: float
    propose: float
    tell: float
    blur: float
    grid: tuple[float, ...]

    def step(self, edge: str, proposals: str) -> float:
        """Return the default step of instances."""
        if edge == "linear":
            return LINEAR_STEP
        return self.propose if proposals == "objects" else self.cut


OUTLINES = {
    # Matched pixels end where objects end: a step is a step. 0.15 and 0.1 were fixed before any measurement.
    STEREO: OutlineDefaults(cut=0.15, propose=0.15, tell=0.1, blur=0.0, grid=(0.1, 0.2, 0.3, 0.4, 0.5, 0.7)),
    # Outlines are slopes some percent of the height wide, so no single pixel shows much of a step. With the
    # values of stereo, no class at all was a thing on toy streets.
    NETWORK: OutlineDefaults(
        cut=0.15, propose=0.03, tell=0.03, blur=0.03, grid=(0.02, 0.04, 0.06, 0.1, 0.2, 0.3)
    ),
}
"""Kind of depth -> defaults. Depth of unknown origin counts as a network's."""
LINEAR_STEP = 0.20
"""Sobel magnitude on depth in 0-1: the choice of the published rows."""
LEAST_AREA = {"log": 400, "linear": 1000}
"""Default least area of an instance: `linear` as in the published rows."""
AREA_GRID = (200, 400, 600, 800, 1000)
"""Least areas that the sweep tries."""
LINEAR_REACH = 3
"""Default reach with `linear` edges when cut pixels are given back; `log` edges give all of them back."""
LINEAR_GRID = {
    0.05: (100,),
    0.08: (200, 500),
    0.12: (200, 500),
    0.20: (200, 500),
    0.30: (500, 600, 700, 800, 1000),
    0.50: (500, 600, 700, 800, 1000),
    0.60: (500, 600, 700, 800),
    0.70: (600, 700, 800),
    0.80: (500, 1000, 2000),
    0.90: (1000,),
    1.00: (500, 1000, 2000),
}
"""Step -> least areas of the published sweep, 31 configurations; its components had at least 10 pixels."""
LINEAR_BASELINE = 10


def pixels_of(area: float, rows: int) -> int:
    """Return an area in pixels of an image with `rows` rows, at least 1."""
    return max(1, round(area * (rows / REFERENCE_ROWS) ** 2))


def length_of(length: float, rows: int) -> int:
    """Return a length in pixels of an image with `rows` rows."""
    return round(length * rows / REFERENCE_ROWS)


def proposals_of(edge: str, named: bool, has_depth: bool = True) -> str:
    """Return the default way to propose instances.

    An object is one region of a named class, but several of clusters: these have to be joined, by depth where
    there is some.
    """
    if named or edge == "linear":
        return "classes"
    return "objects" if has_depth else "things"


def by_kind(name: str) -> str:
    """Return a default of each kind of depth as the help says it."""
    return ", ".join(f"{kind} {getattr(defaults, name):g}" for kind, defaults in OUTLINES.items())
