"""Heights above the street and object-like regions, from depth alone.

On a flat street seen by an upright camera at height h, the ground at row v has depth z = f h / (v - v0),
where v0 is the horizon row. A line fitted to 1 / z over v therefore gives the horizon and 1 / (f h), and with
them the height of every pixel in units of h: no calibration is read, and the unknown scale of a network's
depth drops out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cc3d
import cv2
import numpy as np

from cups.ops.components import give_back, relabel_by_area, split_components
from cups.ops.depth_edges import depth_edges

GROUND_ROWS = (0.55, 0.8)
"""Rows (fractions of the height) that look at the street ahead: below most horizons, and above the bonnet and
the lowest quarter, which networks trained without it fill in."""
HORIZONS = (-0.5, GROUND_ROWS[0])
"""Rows (fractions of the height) where the horizon of a street may be. Higher: the camera looks down by more
than 25 degrees or so, or a wall leans back. Lower: the rows ahead are not all of the street."""
LEAST_ROWS = 0.5
"""Share of the rows ahead whose farthest surface lies on one plane, to `ROW_MARGIN`."""
ROW_MARGIN = 0.1
LEAST_ON = 0.3
"""Share of the pixels of these rows that lies on the street, to `MARGIN`: less in no frame of the toy streets
(0.59) nor of five photographs (0.69); in a synthetic crowd 0.32, on what is no street up to 0.29."""
MOST_BELOW = 0.12
"""Share that lies lower than the street: 0.08 at most in those; more beside walls where the camera leans."""
MARGIN = 0.2
"""Both margins in camera heights."""


@dataclass(frozen=True)
class GroundPlane:
    """1 / depth = slope * (row - horizon) on the street; `slope` in 1 / (depth unit * pixels)."""

    horizon: float
    slope: float

    def height(self, depth: np.ndarray) -> np.ndarray:
        """Return (H, W) float32 heights above the street in camera heights; `depth`: (H, W) positive."""
        rows = np.arange(depth.shape[0], dtype=np.float32)[:, None]
        return (1 - (rows - np.float32(self.horizon)) * np.float32(self.slope) * depth).astype(np.float32)


@dataclass(frozen=True)
class StreetSearch:
    """What the search for a street found, and by what it was judged.

    Attributes:
        plane: the street; None: no street here.
        reason: why there is none, as the end of a sentence; "" where there is one.
        horizon: row of the horizon as a share of the height (0 top, 1 bottom); NaN where nothing was fitted.
        rows: share of the rows ahead that agree with one plane.
        on: share of their pixels on the street.
        below: share of their pixels beneath it.
    """

    plane: GroundPlane | None
    reason: str = ""
    horizon: float = math.nan
    rows: float = math.nan
    on: float = math.nan
    below: float = math.nan


def find_street(depth: np.ndarray) -> StreetSearch:
    """Fit the street, or say why the rows ahead do not look like one.

    What stands on the street hides what lies behind, so the street is the farthest surface of its row: the
    lower quartile of 1 / depth per row, then a Theil-Sen line, which bears up to 29 % wrong rows. The fit is
    believed where it runs to a horizon and most of what lies ahead is on it or above. The camera may have any
    height, focal length and unit of depth. One that leans to the side is refused from about 6 degrees on.

    Depth alone is judged: a network that has seen nothing but streets sees one in any picture.

    Args:
        depth: (H, W) float, positive, any unit.
    """
    height = depth.shape[0]
    rows = np.arange(int(height * GROUND_ROWS[0]), int(height * GROUND_ROWS[1]), max(1, height // 128))
    if len(rows) < 8:
        return StreetSearch(None, f"{height} rows of depth are too few")
    ahead = depth[rows].astype(np.float32)
    if not (np.isfinite(ahead).all() and (ahead > 0).all()):
        return StreetSearch(None, "depth holds values that are no distances")
    inverse = np.quantile(1 / ahead, 0.25, axis=1)
    first, second = np.triu_indices(len(rows), k=max(1, len(rows) // 4))
    slope = float(np.median((inverse[second] - inverse[first]) / (rows[second] - rows[first])))
    if slope <= 0:
        return StreetSearch(None, "depth does not fall towards the bottom")
    plane = GroundPlane(float(np.median(rows - inverse / slope)), slope)
    if not HORIZONS[0] * height <= plane.horizon <= HORIZONS[1] * height:
        side = "high" if plane.horizon < 0 else "low"
        reason = (
            f"what falls towards the bottom has its horizon too {side}, {plane.horizon / height:.1f} heights"
        )
        return StreetSearch(None, f"{reason} from the top", plane.horizon / height)
    return _judged(plane, ahead, rows, inverse, height)


def _judged(
    plane: GroundPlane, ahead: np.ndarray, rows: np.ndarray, inverse: np.ndarray, height: int
) -> StreetSearch:
    """Return the search that ends with a plane: believed or not.

    Args:
        ahead: (R, W) depth of the rows ahead.
        rows: (R,) their numbers.
        inverse: (R,) 1 / depth of the farthest surface of each.
    """
    expected = plane.slope * (rows - plane.horizon)
    above = 1 - expected[:, None] * ahead
    agreeing = float(np.mean(np.abs(inverse - expected) < ROW_MARGIN * np.abs(expected)))
    on, below = float(np.mean(np.abs(above) <= MARGIN)), float(np.mean(above < -MARGIN))
    reason = ""
    if agreeing < LEAST_ROWS:
        reason = f"only {agreeing:.0%} of the rows ahead agree with one plane"
    elif on < LEAST_ON:
        reason = f"only {on:.0%} of what lies ahead is on the plane that fits best"
    elif below > MOST_BELOW:
        reason = f"{below:.0%} of what lies ahead is beneath the plane that fits best; the camera may lean"
    found = None if reason else plane
    return StreetSearch(found, reason, plane.horizon / height, agreeing, on, below)


def fit_ground(depth: np.ndarray) -> GroundPlane | None:
    """Fit the street, or return None where the rows ahead do not look like one: see `find_street`.

    Args:
        depth: (H, W) float, positive, any unit.
    """
    return find_street(depth).plane


@dataclass(frozen=True)
class ObjectModel:
    """What a road user looks like in the world; lengths in camera heights (about 1.2-1.6 m on a car).

    Attributes:
        ground_margin: lower than this counts as street (kerbs, slopes, noise of the depth) ...
        foot_margin: ... but an object, once found, reaches down to here: its wheels and feet.
        edge: natural-log depth step that separates two surfaces.
        blur: over how much of the image height such a step is spread: 0 in stereo, some percent in the depth
            of a network. Outlines are compared with what lies that far beside them, and pixels cut away on
            the slope go back to an object.
        top: lowest and highest top of an object: a child or a crouching person; a lorry.
        max_base: an object starts below this; signs and crowns of trees hang higher.
        width: narrowest and widest; a person from the side, an articulated bus.
        post_height, post_width: taller and narrower than this is street furniture.
        max_depth_extent: longest along the view.
        min_front: share of the outline against which what lies beside is farther.
    """

    ground_margin: float = 0.2
    foot_margin: float = 0.08
    edge: float = 0.1
    blur: float = 0.0
    top: tuple[float, float] = (0.5, 3.2)
    max_base: float = 0.7
    width: tuple[float, float] = (0.15, 10.0)
    post_height: float = 1.7
    post_width: float = 0.8
    max_depth_extent: float = 12.0
    min_front: float = 0.5


def object_regions(depth: np.ndarray, ground: GroundPlane, model: ObjectModel | None = None) -> np.ndarray:
    """Find the regions that stand on the street like an object, without looking at classes.

    What rises above the street is cut along depth edges; a component counts when its size and place fit
    `ObjectModel` and most of its outline stands in front of what is beside it.

    Args:
        depth: (H, W) float, positive, any unit.
        ground: the street in this view.

    Returns:
        (H, W) uint16 ids, 0 = none, in falling area.
    """
    model = model or ObjectModel()
    depth = depth.astype(np.float32)
    height = ground.height(depth)
    raised = (height > model.ground_margin).astype(np.uint8)
    rim = 1 + depth.shape[0] // 256
    reach = rim + round(model.blur * depth.shape[0])
    components = split_components(raised, depth_edges(depth) > model.edge, min_area=12, dilation=reach)
    boxes = cc3d.statistics(components)["bounding_boxes"]
    kept = np.zeros(len(boxes), dtype=components.dtype)
    for index in range(1, len(boxes)):
        if boxes[index][0].start == 0:
            # Cut off by the upper border: its height is not known, and road users rarely reach it.
            continue
        window = tuple(slice(max(0, side.start - 2 * reach), side.stop + 2 * reach) for side in boxes[index])
        mask = components[window] == index
        # The focal length only measures the extent along the view; street cameras have it near the width.
        focal = float(depth.shape[1])
        if _looks_like_object(mask, depth[window], height[window], ground, model, (rim, reach), focal):
            kept[index] = index
    return relabel_by_area(_add_feet(kept[components], depth, height, model))


def _add_feet(objects: np.ndarray, depth: np.ndarray, height: np.ndarray, model: ObjectModel) -> np.ndarray:
    """Give objects the nearby pixels just above the street that are as far away as they are."""
    low = (objects == 0) & (height > model.foot_margin) & (height <= model.ground_margin)
    reach = max(2, depth.shape[0] // 32)
    grown = give_back(objects, ((objects > 0) | low).astype(np.uint8), reach)
    log_depth = np.log(depth)
    areas = np.maximum(1, np.bincount(objects.ravel()))
    mean = np.bincount(objects.ravel(), log_depth.ravel()) / areas
    fits = (np.abs(log_depth - mean[grown]) < model.edge) | (objects > 0)
    return np.where(fits, grown, 0)


def _looks_like_object(
    mask: np.ndarray,
    depth: np.ndarray,
    height: np.ndarray,
    ground: GroundPlane,
    model: ObjectModel,
    widths: tuple[int, int],
    focal: float,
) -> bool:
    base, top = np.quantile(height[mask], (0.05, 0.95))
    if not (model.top[0] <= top <= model.top[1] and base <= model.max_base):
        return False
    near, middle, far = np.quantile(depth[mask], (0.05, 0.5, 0.95)) * ground.slope
    # The middle row, not the box: a mirror or an arm must not widen a post.
    rows = mask.sum(axis=1)
    width = np.median(rows[rows > 0]) * middle
    post = top > model.post_height and width < model.post_width
    if post or not model.width[0] <= width <= model.width[1]:
        return False
    if (far - near) * focal > model.max_depth_extent:
        return False
    return _front_share(mask, depth, height, model, widths) >= model.min_front


def _front_share(
    mask: np.ndarray, depth: np.ndarray, height: np.ndarray, model: ObjectModel, widths: tuple[int, int]
) -> float:
    """Share of the outline, without its contact with the street, where the outside is farther.

    Args:
        widths: (width of the ring that is looked at, distance of its outer side from the mask), pixels.
    """
    width, distance = widths
    reach = cv2.dilate(np.where(mask, depth, 0), _square(distance))
    near = cv2.dilate(mask.view(np.uint8), _square(distance - width)) > 0
    ring = (reach > 0) & ~near
    step = np.log(depth[ring] / reach[ring])
    contact = (np.abs(step) <= model.edge) & (height[ring] <= model.ground_margin)
    counted = np.count_nonzero(~contact)
    return float(np.count_nonzero(step > model.edge)) / counted if counted else 0.0


def _square(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
