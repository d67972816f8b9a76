"""The full network of the parity fixtures, built once."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from cups.model import panoptic_cascade_mask_r_cnn


@pytest.fixture(scope="session")
def parity_model(parity: Path) -> nn.Module:
    """The full network with the fixture's weights and the absolute stuff limit of the original."""
    from fill import filled_state_dict

    model = panoptic_cascade_mask_r_cnn(
        8, 20, 0.5, model_overrides=["MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_FRACTION", 0.0]
    )
    model.load_state_dict(filled_state_dict("cups_panoptic_cascade_mask_r_cnn.json"), strict=True)
    return model.eval()
