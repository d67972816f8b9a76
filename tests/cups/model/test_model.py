"""The builders: names, shapes, training, inference, devices, errors, and parity with the original."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from cups.errors import UserError
from cups.model import (
    panoptic_cascade_mask_r_cnn,
    panoptic_cascade_mask_r_cnn_from_checkpoint,
    panoptic_from_output,
    to_detectron2,
)
from cups.model.model import CONFIG_DIR, class_weights_of, load_config
from cups.structures import PseudoClasses, Sample
from tests.cups.conftest import TINY

Builder = Callable[..., nn.Module]
Sampler = Callable[..., Sample]
THINGS, STUFFS = 3, 4  # of conftest.make_tiny
LOSSES = {"loss_sem_seg", "loss_rpn_cls", "loss_rpn_loc", "loss_mask"} | {
    f"loss_{kind}_stage{stage}" for kind in ("cls", "box_reg") for stage in range(3)
}


def test_state_dict__names_and_shapes_equal_the_manifest(parity: Path, parity_model: nn.Module) -> None:
    manifest = json.loads((parity / "cups_panoptic_cascade_mask_r_cnn.json").read_text())
    own = {name: list(value.shape) for name, value in parity_model.state_dict().items()}
    assert own == manifest
    assert list(own) == list(manifest)


def test_inference__equals_the_original(parity: Path, parity_model: nn.Module) -> None:
    expected = np.load(parity / "cups_panoptic_cascade_mask_r_cnn.npz")
    image = torch.from_numpy(expected["image"])
    with torch.no_grad():
        output = parity_model([{"image": image, "height": 192, "width": 384}])[0]
    np.testing.assert_allclose(output["sem_seg"][:, ::8, ::8].numpy(), expected["sem_seg"], atol=1e-3)
    found = output["instances"]
    # Random weights: three cascade stages amplify the rounding that differs with the number of threads and
    # with the processor. Seen: 0 to 0.44 pixels for boxes, 99.72 % equal pixels of the panoptic map.
    np.testing.assert_allclose(found.pred_boxes.tensor.numpy(), expected["boxes"], atol=0.6)
    np.testing.assert_allclose(found.scores.numpy(), expected["scores"], atol=1e-4)
    np.testing.assert_array_equal(found.pred_classes.numpy(), expected["classes"])
    areas = found.pred_masks.flatten(1).sum(1).numpy()
    np.testing.assert_allclose(areas, expected["mask_areas"], atol=1e-3 * image[0].numel())
    panoptic, segments = output["panoptic_seg"]
    assert (panoptic.numpy()[::2, ::2] == expected["panoptic"]).mean() >= 0.996
    wanted = json.loads(str(expected["segments"]))
    keys = ("id", "isthing", "category_id")
    assert [[s[key] for key in keys] for s in segments] == [[s[key] for key in keys] for s in wanted]


def test_training_step__gives_all_losses_and_gradients(sample: Sample, build_tiny: Builder) -> None:
    model = build_tiny(use_drop_loss=True)
    losses = model([to_detectron2(sample), to_detectron2(sample)])
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("drop_loss", [False, True])
def test_training_step__images_without_objects_or_labels_give_finite_losses(
    drop_loss: bool, build_tiny: Builder, build_sample: Sampler
) -> None:
    """Upstream: an image whose pixels are all ignored made the loss NaN."""
    empty = build_sample([])
    unlabelled = empty.replace(sem_seg=torch.full_like(empty.sem_seg, 65535))
    model = build_tiny(use_drop_loss=drop_loss)
    losses = model([to_detectron2(unlabelled), to_detectron2(unlabelled)])
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_training_step__overfits_two_frames(build_tiny: Builder, build_sample: Sampler) -> None:
    torch.manual_seed(0)
    model = build_tiny()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    inputs = [to_detectron2(build_sample([(4, 6, 40, 40), (50, 20, 90, 60)])) for _ in range(2)]
    totals = []
    for _ in range(12):
        loss = sum(model(inputs).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert min(totals[-3:]) < 0.6 * totals[0]


def test_inference__any_size_gives_outputs_of_the_size_asked(sample: Sample, build_tiny: Builder) -> None:
    model = build_tiny(confidence_threshold=0.0).eval()
    image = torch.rand((3, 50, 75), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = model([{"image": image}, {"image": sample.image, "height": 32, "width": 48}])
    assert first["sem_seg"].shape == (STUFFS + 1, 50, 75)
    assert second["sem_seg"].shape == (STUFFS + 1, 32, 48)
    assert len(second["instances"]) > 0
    assert second["instances"].pred_masks.shape[1:] == (32, 48)
    panoptic = panoptic_from_output(second, PseudoClasses(THINGS, STUFFS))
    assert panoptic.shape == (32, 48, 2)
    assert set(panoptic[..., 0].unique().tolist()) <= {*range(STUFFS + THINGS), 255}


def test_inference__same_seed_same_result(sample: Sample, build_tiny: Builder) -> None:
    first, second = (build_tiny().eval() for _ in range(2))
    with torch.no_grad():
        outputs = [model([{"image": sample.image}])[0]["sem_seg"] for model in (first, second)]
    assert torch.equal(outputs[0], outputs[1])


def _write(model: nn.Module, path: Path, **stored: Any) -> Path:
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": {"model": stored}}, path)
    return path


TINY_NETWORK = {"model_config": "Panoptic-Cascade-Mask-R-CNN-Small.yaml", "model_overrides": TINY}


@pytest.mark.parametrize("weights", [None, [0.5, 0.75, 1.0, 1.25, 1.5]])
def test_from_checkpoint__restores_the_class_weights(
    build_tiny: Builder, tmp_path: Path, weights: list[float] | None
) -> None:
    """They are no tensor of the checkpoint, and were forgotten: Stage 3 trained by another loss."""
    path = _write(build_tiny(), tmp_path / "a.ckpt", class_weights=weights, **TINY_NETWORK)
    model, things, stuffs = panoptic_cascade_mask_r_cnn_from_checkpoint(path)
    assert (things, stuffs, class_weights_of(model)) == (THINGS, STUFFS, weights)


@pytest.mark.parametrize(
    "weights", [[1.0] * 4, [1.0] * 4 + [0.0], [1.0] * 4 + [float("nan")], ["a"] * 5, 1.0]
)
def test_from_checkpoint__class_weights_of_nothing_are_refused(
    build_tiny: Builder, tmp_path: Path, weights: Any
) -> None:
    path = _write(build_tiny(), tmp_path / "a.ckpt", class_weights=weights, **TINY_NETWORK)
    with pytest.raises(
        UserError, match=r"a\.ckpt: class weights that fit no 5 channels; train Stage 2 again"
    ):
        panoptic_cascade_mask_r_cnn_from_checkpoint(path)


@pytest.mark.parametrize("factor", [255.0, -1.0])
def test_forward__image_outside_the_range_is_refused(factor: float, build_tiny: Builder) -> None:
    item = {"image": torch.full((3, 64, 64), 0.5) * factor}
    with pytest.raises(ValueError, match="RGB in 0-1"):
        build_tiny().eval()([item])


def test_builder__works_from_any_folder_and_stays_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_tiny: Builder
) -> None:
    """Upstream read its YAML relative to the working folder and built on CUDA whatever was asked."""
    monkeypatch.chdir(tmp_path)
    model = build_tiny()
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_builder__no_synchronised_norm_outside_distributed_cuda() -> None:
    model = panoptic_cascade_mask_r_cnn(2, 3, model_overrides=["MODEL.RESNETS.DEPTH", 50])
    kinds = {type(module).__name__ for module in model.modules() if "BatchNorm" in type(module).__name__}
    assert kinds == {"BatchNorm2d"}


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIG_DIR.glob("*.yaml")))
def test_load_config__every_yaml_merges(name: str) -> None:
    cfg = load_config(name)
    assert cfg.MODEL.PIXEL_MEAN[0] == pytest.approx(0.485)
    assert cfg.MODEL.RPN.NMS_THRESH == 0.65


def test_load_config__these_configs_are_shipped() -> None:
    assert {path.name for path in CONFIG_DIR.glob("*.yaml")} == {
        "Base-RCNN-FPN.yaml",
        "Base-Panoptic-FPN.yaml",
        "Cascade-Mask-R-CNN.yaml",
        "Panoptic-Cascade-Mask-R-CNN.yaml",
        "Panoptic-Cascade-Mask-R-CNN-ViTB.yaml",
        "Panoptic-Cascade-Mask-R-CNN-Small.yaml",
    }


def test_find_objects__equals_the_confident_part_of_inference(
    build_tiny: Builder, build_sample: Sampler
) -> None:
    model = build_tiny(confidence_threshold=0.05).eval()
    images = [{"image": build_sample([(4, 6, 40, 40)], size=size).image} for size in ((64, 96), (50, 70))]
    with torch.no_grad():
        every = [output["instances"] for output in model(images)]
    confidence = float(torch.cat([found.scores for found in every]).median())
    some = model.find_objects(images, confidence)
    for whole, part in zip(every, some, strict=True):
        chosen = whole[whole.scores > confidence]
        assert 0 < len(chosen) < len(whole)
        assert torch.equal(part.scores, chosen.scores)
        assert torch.equal(part.pred_classes, chosen.pred_classes)
        assert torch.equal(part.pred_masks, chosen.pred_masks)


def test_cascade_config__builds_a_class_agnostic_detector_with_drop_loss() -> None:
    narrow = [
        *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
        *("MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "BN", "MODEL.ROI_BOX_HEAD.FC_DIM", 16),
    ]
    heads = build_model(load_config("Cascade-Mask-R-CNN.yaml", narrow)).roi_heads
    assert (heads.num_classes, heads.use_drop_loss, heads.drop_loss_iou) == (1, True, 0.01)


@pytest.mark.parametrize(
    ("config", "overrides", "named"),
    [
        ("nowhere.yaml", [], "nowhere.yaml"),
        ("Base-RCNN-FPN.yaml", ["MODEL.NO_SUCH_KEY", 1], "MODEL.NO_SUCH_KEY|NO_SUCH_KEY"),
        ("Base-RCNN-FPN.yaml", ["MODEL.RESNETS.DEPTH", "deep"], "DEPTH|Type mismatch"),
        ("Base-RCNN-FPN.yaml", ["MODEL.RESNETS.DEPTH"], "even|odd|[Oo]verride"),
    ],
)
def test_load_config__bad_input_is_a_user_error(config: str, overrides: list[object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        load_config(config, overrides)
