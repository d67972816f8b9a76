"""What may be chosen anew of a trained network's merge: no weight depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

_COMBINE = "MODEL.PANOPTIC_FPN.COMBINE"


@dataclass(frozen=True)
class MergeChoices:
    """Choices of the panoptic merge; None leaves each as the network was trained.

    Each has the name of its configuration key (`MODEL.SNAP_TO_REGIONS`) in small letters, of its key in the
    network's own config (`MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS`), and of the network's attribute
    (`combine_snap_to_regions`).

    Attributes:
        snap_to_regions: whether stuff follows the edges of the image, see its function.
        semantic_weight: 0-1, of the semantic head in an instance's score, see `agreed_scores`.
    """

    snap_to_regions: bool | None = None
    semantic_weight: float | None = None

    @classmethod
    def of_keys(cls, keys: Mapping[str, Any]) -> MergeChoices:
        """Read them from the section `MODEL` of a configuration."""
        return cls(**{field.name: keys[field.name.upper()] for field in fields(cls)})

    @property
    def chosen(self) -> dict[str, Any]:
        """{name: value} of those that are chosen."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def keys(self) -> dict[str, Any]:
        """{configuration key: value} of those that are chosen."""
        return {f"MODEL.{name.upper()}": value for name, value in self.chosen.items()}

    @property
    def architecture(self) -> dict[str, Any]:
        """{key of the network's config: value} of those that are chosen."""
        return {f"{_COMBINE}.{name.upper()}": value for name, value in self.chosen.items()}

    def apply(self, model: Any) -> None:
        """Change a network in place."""
        for name, value in self.chosen.items():
            setattr(model, f"combine_{name}", value)
