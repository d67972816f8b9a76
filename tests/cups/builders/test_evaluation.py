"""From a configuration to the network as it is evaluated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cups.model
from cups.builders.evaluation import load_for_evaluation
from cups.builders.inference import as_evaluated, prediction_settings
from cups.config import build_config
from cups.errors import UserError
from cups.evaluation.predict import predict
from cups.structures import LoadedImage, Prediction, PseudoClasses

THINGS, STUFFS = 2, 3


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    small = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
    return cups.model.panoptic_cascade_mask_r_cnn(THINGS, STUFFS + 1, 0.05, model_config=small).eval()


@pytest.mark.parametrize("wrappers", [(), ("TTA",), ("CRF",), ("TTA", "CRF")], ids="+".join)
def test_as_evaluated__a_drop_in_for_the_network(network: torch.nn.Module, wrappers: tuple[str, ...]) -> None:
    """Every combination predicts at image size, whatever the size; CRF after the mean of the views."""
    if "CRF" in wrappers:
        pytest.importorskip("pydensecrf")
    pairs = [item for name in wrappers for item in (f"VALIDATION.USE_{name}", "True")]
    model = as_evaluated(network, build_config(None, ["MODEL.TTA_SCALES", "(0.5, 1.0)", *pairs]))
    assert (model is network) == (not wrappers)
    seen: list[Prediction] = []
    image = torch.rand((3, 50, 70), generator=torch.Generator().manual_seed(0))
    batches = [[LoadedImage(image, "a")]]
    predict(
        model, batches, PseudoClasses(THINGS, STUFFS), [lambda item, prediction: seen.append(prediction)], 1
    )
    assert seen[0].panoptic.shape == (50, 70) and seen[0].semantic.shape == (50, 70)
    categories = set(np.unique(seen[0].panoptic.categories).tolist())
    assert categories <= {*range(THINGS + STUFFS), 255} and int(seen[0].semantic.max()) <= STUFFS


@pytest.mark.parametrize(("pairs", "expected"), [((), True), (("False",), False), (("True",), True)])
def test_as_evaluated__edges_as_trained_unless_told(
    network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, pairs: tuple[str, ...], expected: bool
) -> None:
    monkeypatch.setattr(network, "combine_snap_to_regions", True)
    as_evaluated(network, build_config(None, [item for p in pairs for item in ("MODEL.SNAP_TO_REGIONS", p)]))
    assert network.combine_snap_to_regions is expected


def test_prediction_settings__change_with_all_that_changes_a_prediction(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.ckpt"
    checkpoint.write_bytes(b"one")

    def settings(*pairs: str) -> dict[str, object]:
        return prediction_settings(build_config(None, pairs, {"checkpoint": str(checkpoint)}))

    base = settings()
    for pairs in (
        ("VALIDATION.USE_TTA", "True"),
        ("VALIDATION.USE_CRF", "True"),
        ("MODEL.TTA_SCALES", "(1.0,)"),
        ("MODEL.USE_TEACHER", "True"),
        ("MODEL.SNAP_TO_REGIONS", "False"),
        ("MODEL.SEMANTIC_WEIGHT", "0.3"),
        ("MODEL.INFERENCE_CONFIDENCE_THRESHOLD", "0.9"),
        ("DATA.VAL_SCALE", "0.25"),
        ("DATA.ROOT_VAL", "/elsewhere"),
    ):
        assert settings(*pairs) != base, pairs
    assert settings("VALIDATION.VOID_RULE", "upstream", "SYSTEM.NUM_WORKERS", "0") == base
    checkpoint.write_bytes(b"two")
    assert settings() != base


def test_load_for_evaluation__needs_a_checkpoint() -> None:
    with pytest.raises(UserError, match=r"give a checkpoint with `checkpoint`"):
        load_for_evaluation(build_config())
