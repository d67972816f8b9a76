"""Parity on a device: deviations are found, and fixtures that are not there are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cups.model import panoptic_cascade_mask_r_cnn
from studies.benchmarks import parity as benchmark
from studies.benchmarks.gpu_tables import parity_table
from studies.benchmarks.parity import CHECKS, parity_row


def test_parity_row__no_fixtures(tmp_path: Path) -> None:
    row = parity_row("CAUSE-TR", tmp_path / "none", "cpu")
    assert str(tmp_path / "none") in row["skipped"]
    assert "no parity fixtures" in parity_table({"CAUSE-TR": row})


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "panoptic network"])
def test_parity_row__the_stored_outputs(parity: Path, name: str) -> None:
    deviations = parity_row(name, parity, "cpu")["deviations"]
    assert deviations and all(found <= allowed for found, allowed in deviations.values())


@pytest.fixture
def tiny_fixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fixtures of a tiny network in place of the large one; the tests of the model run that one."""
    small = [
        "MODEL.ROI_BOX_HEAD.FC_DIM",
        16,
        "MODEL.RPN.POST_NMS_TOPK_TEST",
        16,
        "MODEL.FPN.OUT_CHANNELS",
        32,
    ]

    def build(things: int, stuffs: int, confidence: float, **_: Any) -> nn.Module:
        torch.manual_seed(0)
        name = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
        return panoptic_cascade_mask_r_cnn(3, 5, 0.0, model_config=name, model_overrides=small)

    monkeypatch.setattr(benchmark, "panoptic_cascade_mask_r_cnn", build)
    model = build(0, 0, 0).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "fill.py").write_text(
        "import pathlib, torch\n"
        "def filled_state_dict(name):\n"
        "    return torch.load(pathlib.Path(__file__).with_name('weights.pt'), weights_only=True)\n"
    )
    image = torch.rand((3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = model([{"image": image}])[0]
    np.savez(
        tmp_path / "cups_panoptic_cascade_mask_r_cnn.npz",
        image=image.numpy(),
        sem_seg=output["sem_seg"][:, ::8, ::8].numpy(),
        boxes=output["instances"].pred_boxes.tensor.numpy(),
        scores=output["instances"].scores.numpy()[1:],
        panoptic=output["panoptic_seg"][0].numpy()[::2, ::2] + 1,
    )
    return tmp_path


def test_panoptic_network__deviations(tiny_fixtures: Path) -> None:
    """Equal logits and boxes; another number of scores and another map were stored."""
    row = parity_row("panoptic network", tiny_fixtures, "cpu")
    found = [deviation for deviation, _ in row["deviations"].values()]
    assert found[0] < 1e-5 and found[1] < 1e-3 and found[2:] == [float("inf"), 1.0]
    assert "other shape" in parity_table({"panoptic network": row})


def test_exact__gives_tf32_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    with benchmark.exact():
        assert not torch.backends.cudnn.allow_tf32 and not torch.is_grad_enabled()
    assert torch.backends.cudnn.allow_tf32 == before
