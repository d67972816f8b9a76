"""Run folders, resuming, precision, class weights."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cups.builders import stage2
from cups.builders.run_directory import run_directory
from cups.builders.stage2 import (
    DINO_NAMES,
    batch_augmentation,
    build_model,
    build_training_data,
    class_weights,
    find_backbone_checkpoint,
    network_of,
    split_to_go_on_with,
    training_provenance,
)
from cups.builders.trainer import prepare_process, start_run
from cups.config import add_resume_arguments, build_config
from cups.errors import UserError
from cups.io.checkpoint import write_file
from cups.io.file_names import ALL_PIXELS, INSIDE_INSTANCES, SPLIT_FILE
from cups.io.files import write_json
from cups.io.provenance import read_provenance, write_provenance
from cups.io.weights import ROOT, weight_files
from cups.model.model import load_config
from cups.structures import ThingStuffSplit
from cups.training.kept_checkpoints import NEEDED, last_checkpoint
from cups.training.processes import precision_of
from tests.cups.conftest import TINY


def test_run_directory__name_or_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPS_RUN_NAME", "")
    monkeypatch.delenv("CUPS_RUN_NAME")
    config = build_config(None, (), {"log_path": str(tmp_path), "run_name": "2026"})
    assert run_directory(config) == tmp_path / "2026"
    unnamed = run_directory(build_config(None, (), {"log_path": str(tmp_path)}))
    assert unnamed.parent == tmp_path and unnamed.name.startswith("pseudo_")
    assert os.environ["CUPS_RUN_NAME"] == unnamed.name, "later processes of the run find it there"


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ({"SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "train"}, "self_42"),
        ({"SLURM_JOB_ID": "44", "SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "1"}, "self_42_1"),
        ({"SLURM_JOB_ID": "42", "SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_run_directory__a_job_that_is_queued_again_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, str], name: str | None
) -> None:
    """Its second start had another time: a run of its own, from the first step."""
    for variable in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("CUPS_RUN_NAME", "")
    monkeypatch.delenv("CUPS_RUN_NAME")
    for variable, value in job.items():
        monkeypatch.setenv(variable, value)
    made = run_directory(build_config(None, (), {"log_path": str(tmp_path)}), "self").name
    assert made == name if name else made.startswith("self_20")


@pytest.mark.parametrize(("count", "goes_on"), [(None, False), ("0", False), ("1", True)])
def test_resume_arguments__a_job_that_is_queued_again_goes_on(
    monkeypatch: pytest.MonkeyPatch, count: str | None, goes_on: bool
) -> None:
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    if count is not None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
    parser = argparse.ArgumentParser()
    add_resume_arguments(parser)
    assert parser.parse_args([]).resume_if_possible is goes_on


def test_start_run__resume_needs_a_checkpoint_and_a_run_is_kept(tmp_path: Path) -> None:
    config = build_config()
    with pytest.raises(UserError, match=r"last\.ckpt: no such file; `resume` needs"):
        start_run(config, tmp_path, resume=True)
    assert start_run(config, tmp_path, resume=False) is None
    assert (tmp_path / "config.yaml").is_file()
    last = last_checkpoint(tmp_path)
    write_file(last, dict.fromkeys(NEEDED, 0))
    with pytest.raises(UserError, match="holds a run already; add `resume`"):
        start_run(config, tmp_path, resume=False)
    assert start_run(config, tmp_path, resume=True) == last


def test_start_run__resumed_with_other_settings_says_which(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A lower --lr was taken without a word, and did nothing: the rate comes from the checkpoint."""
    pairs = ["DATA.CROP_RESOLUTION", "(192, 384)"]
    start_run(build_config(), tmp_path, resume=False)
    start_run(build_config(None, pairs), tmp_path, resume=False)  # the first left no checkpoint: a new run
    last = last_checkpoint(tmp_path)
    write_file(last, dict.fromkeys(NEEDED, 0))
    start_run(build_config(None, pairs), tmp_path, resume=True)
    assert not caplog.records
    start_run(build_config(None, [*pairs, "TRAINING.STEPS", "9000"], {"lr": 1e-6}), tmp_path, resume=True)
    assert "TRAINING.STEPS 4000 -> 9000\n" in caplog.text
    assert "TRAINING.ADAMW.LEARNING_RATE 0.0001 -> 1e-06 (no effect: the optimiser goes on" in caplog.text
    start_run(build_config(None, ["MODEL.CHECKPOINT", "b.ckpt"]), tmp_path, resume=True)
    assert "MODEL.CHECKPOINT None -> b.ckpt (no effect: the run goes on with its own weights)" in caplog.text


@pytest.mark.parametrize(
    ("name", "lightning"),
    [("bf16", "bf16-mixed"), ("32", "32-true"), ("16", "16-mixed"), ("64-true", "64-true")],
)
def test_precision_of__common_names(name: str, lightning: str) -> None:
    assert precision_of(name) == lightning
    assert precision_of("auto") in ("bf16-mixed", "32-true")


def test_class_weights__generic_thing_first_and_falling_with_frequency() -> None:
    """Upstream puts the thing weight last, though label 0 is the thing class: every weight is off by one."""
    data = SimpleNamespace(
        all_pixels=torch.tensor([16.0, 4.0, 1.0]), split=ThingStuffSplit(things=(2,), stuffs=(0, 1))
    )
    weights = class_weights(data)  # type: ignore[arg-type]
    assert weights.mean() == pytest.approx(1.0)
    torch.testing.assert_close(weights / weights[1], torch.tensor([4.0, 1.0, 2.0]))


def test_class_weights__rare_classes_are_capped_and_absent_ones_neutral() -> None:
    """The plain inverse gave the class of one pixel 299.9 of the 300 that all weights sum to."""
    pixels = torch.full((300,), 1e6)
    pixels[1], pixels[2], pixels[3] = 1.0, 0.0, 25e4
    data = SimpleNamespace(all_pixels=pixels, split=ThingStuffSplit(things=(0,), stuffs=tuple(range(1, 300))))
    weights = class_weights(data)  # type: ignore[arg-type]
    torch.testing.assert_close(weights[:4] / weights[4], torch.tensor([1.0, 10.0, 1.0, 2.0]))
    assert torch.isfinite(weights).all() and weights.mean() == pytest.approx(1.0)


def test_find_backbone_checkpoint__missing_weights_name_the_way_out(tmp_path: Path) -> None:
    missing = str(tmp_path / "dino.pkl")
    with pytest.raises(UserError, match=r"MODEL\.USE_DINO False"):
        find_backbone_checkpoint(build_config(None, ["MODEL.BACKBONE_CHECKPOINT", missing]))
    assert find_backbone_checkpoint(build_config(None, ["MODEL.USE_DINO", "False"])) is None
    assert find_backbone_checkpoint(build_config(None, ["MODEL.CHECKPOINT", "run.ckpt"])) is None
    (tmp_path / "dino.pkl").write_bytes(b"")
    found = find_backbone_checkpoint(build_config(None, ["MODEL.BACKBONE_CHECKPOINT", missing]))
    assert found == tmp_path / "dino.pkl"


def test_find_backbone_checkpoint__dino_lies_where_the_readme_says() -> None:
    """The move of the builders once took the folder of the weights along, to one that nobody fills."""
    resnet = weight_files("dino_resnet50")[0].path
    assert resnet.relative_to(ROOT) == Path("cups/model/backbone_checkpoints") / DINO_NAMES[0]
    try:
        assert find_backbone_checkpoint(build_config()) in {resnet.with_name(name) for name in DINO_NAMES}
    except UserError as error:
        assert str(error).startswith(f"{resnet}: no such file")


def test_build_training_data__needs_pseudo_labels() -> None:
    """The default was the folder `pseudo_labels`: our own package."""
    with pytest.raises(UserError, match=r"^DATA\.ROOT_PSEUDO is not set; .*`pseudo_root`$"):
        build_training_data(build_config())


def test_find_backbone_checkpoint__a_transformer_has_its_own_place() -> None:
    vit = ["MODEL.BACKBONE_TYPE", "dinov2_vitl14"]
    with pytest.raises(UserError, match=r"dinov2_vitl14.*MODEL\.BACKBONE_CHECKPOINT"):
        find_backbone_checkpoint(build_config(None, vit))
    assert find_backbone_checkpoint(build_config(None, ["MODEL.BACKBONE_TYPE", "texton"])) is None


@pytest.mark.parametrize(
    ("file", "labels", "expected"),
    [
        ("dino_RN50_pretrain_d2_format.pkl", False, False),
        ("dino_RN50_pretrain_d2_format.pkl", None, None),
        ("imagenet_supervised.pkl", False, None),
        ("imagenet_supervised.pkl", True, True),
    ],
)
def test_training_provenance__backbone_weights_count(
    tmp_path: Path, file: str, labels: bool | None, expected: bool | None
) -> None:
    (tmp_path / file).write_bytes(b"weights")
    pairs = ["DATA.ROOT_PSEUDO", str(tmp_path / "labels"), "MODEL.BACKBONE_CHECKPOINT", str(tmp_path / file)]
    write_provenance(tmp_path / "labels", script="test", arguments={}, uses_ground_truth=labels)
    provenance = training_provenance(build_config(None, pairs))
    assert provenance["uses_ground_truth"] is expected
    assert provenance["weights"][0]["sha256"].keys() == {file}


@pytest.mark.parametrize("before", [True, False, None])
def test_training_provenance__a_starting_checkpoint_hands_on_its_fact(
    tmp_path: Path, before: bool | None
) -> None:
    """A network pretrained with labels once made Stage 2 on label-free labels count as label-free."""
    content = {"state_dict": {"model.w": torch.zeros(1)}, "hyper_parameters": {}}
    if before is not None:
        content["hyper_parameters"] = {"provenance": {"uses_ground_truth": before}}
    torch.save(content, tmp_path / "start.ckpt")
    write_provenance(tmp_path / "labels", script="test", arguments={})
    pairs = ["DATA.ROOT_PSEUDO", str(tmp_path / "labels"), "MODEL.CHECKPOINT", str(tmp_path / "start.ckpt")]
    assert training_provenance(build_config(None, pairs))["uses_ground_truth"] is before


def test_network_of__the_backbone_type_chooses_config_and_overrides() -> None:
    plain = network_of(build_config(None, []))
    assert plain == {"model_config": "Panoptic-Cascade-Mask-R-CNN.yaml", "model_overrides": []}
    pairs = ["MODEL.BACKBONE_TYPE", "dinov3_vits16", "MODEL.OVERRIDES", ("MODEL.FPN.OUT_CHANNELS", 64)]
    vit = network_of(build_config(None, pairs))
    assert vit["model_config"] == "Panoptic-Cascade-Mask-R-CNN-ViTB.yaml"
    assert "dinov3_vits16" in vit["model_overrides"]
    assert vit["model_overrides"][-2:] == ["MODEL.FPN.OUT_CHANNELS", 64]


@pytest.mark.parametrize("backbone", ["resnet50", "dinov2_vits14"])
def test_network_of__a_checkpoint_keeps_whether_stuff_follows_edges(backbone: str) -> None:
    pairs = ["MODEL.BACKBONE_TYPE", backbone, "MODEL.SNAP_TO_REGIONS", True]
    network = network_of(build_config(None, pairs))
    built = load_config(network["model_config"], network["model_overrides"])
    assert built.MODEL.PANOPTIC_FPN.COMBINE.SNAP_TO_REGIONS


def test_batch_augmentation__sizes_keep_the_shape_of_the_canvas() -> None:
    """They are made for 1:2 crops: photos of 3:4 would have been squeezed to 1:2 in every batch."""
    published = batch_augmentation(build_config(), (640, 1280)).resolution_jitter
    assert published == batch_augmentation(build_config()).resolution_jitter
    assert published is not None and published.resolutions[0] == (384, 768)
    own = batch_augmentation(build_config(), (480, 640)).resolution_jitter
    assert own is not None and own.resolutions[0] == (288, 384) and own.resolutions[-1] == (528, 704)


def _labels(folder: Path, things: list[int], fit: str = "a") -> Path:
    """Write statistics and split of four pseudo-classes, fitted on something."""
    folder.mkdir(exist_ok=True)
    torch.save({ALL_PIXELS: torch.ones(4), INSIDE_INSTANCES: torch.ones(4)}, folder / "split_1.pt")
    stuffs = sorted({0, 1, 2, 3} - set(things))
    write_json(folder / SPLIT_FILE, {"things": things, "stuffs": stuffs})
    write_provenance(folder.parent / "maps", script="cluster", arguments={}, fits={"centroids": fit})
    write_provenance(folder, script="convert", arguments={}, inputs=[folder.parent / "maps"])
    return folder


@pytest.mark.parametrize(
    ("things", "fit", "resumed", "expected"),
    [
        ([2, 3], "a", True, None),
        ([3, 2], "a", True, None),
        ([3, 2], "a", False, None),
        ([1, 3], "a", True, None),
        ([1, 3], "a", False, "pseudo-classes 1 2 on other sides"),
        ([2, 3], "b", False, "made with other centroids"),
        ([2, 3], "b", True, "made with other centroids"),
    ],
)
def test_split_to_go_on_with__is_that_of_the_network(
    tmp_path: Path, things: list[int], fit: str, resumed: bool, expected: str | None
) -> None:
    """Equal numbers of things and stuff were enough: every output got another meaning without a word."""
    labels = _labels(tmp_path / "labels", [2, 3])
    path = tmp_path / "before.ckpt"
    stored = {
        "thing_pseudo_classes": [2, 3],
        "stuff_pseudo_classes": [0, 1],
        "provenance": {"pseudo_labels": read_provenance(labels)},
    }
    torch.save({"state_dict": {"model.w": torch.zeros(1)}, "hyper_parameters": stored}, path)
    _labels(labels, things, fit)
    pairs = ["DATA.ROOT_PSEUDO", str(labels)]
    config = build_config(None, pairs if resumed else [*pairs, "MODEL.CHECKPOINT", str(path)])
    if expected is not None:
        with pytest.raises(UserError, match=f"^{labels}: .*{expected}.*equal numbers mean other"):
            split_to_go_on_with(config, path if resumed else None)
        return
    assert split_to_go_on_with(config, path if resumed else None) == ThingStuffSplit((2, 3), (0, 1))
    assert split_to_go_on_with(build_config(None, pairs), None) is None, "from scratch"


@pytest.mark.parametrize("resumed", [True, False])
def test_split_to_go_on_with__another_number_of_pseudo_classes_is_refused(
    tmp_path: Path, resumed: bool
) -> None:
    """Other k, or another number of merged clusters: the network's outputs stand for none of them."""
    labels = _labels(tmp_path / "labels", [2, 3])
    path = tmp_path / "before.ckpt"
    stored = {"thing_pseudo_classes": [2], "stuff_pseudo_classes": [0, 1]}
    torch.save({"state_dict": {"model.w": torch.zeros(1)}, "hyper_parameters": stored}, path)
    pairs = ["DATA.ROOT_PSEUDO", str(labels), *([] if resumed else ["MODEL.CHECKPOINT", str(path)])]
    with pytest.raises(UserError, match=f"^{labels}: has 4 pseudo-classes, .*before.ckpt 3; use the labels"):
        split_to_go_on_with(build_config(None, pairs), path if resumed else None)


def test_build_model__a_checkpoint_of_another_network_is_refused(
    tmp_path: Path, build_tiny: Callable[..., torch.nn.Module]
) -> None:
    """It ended in a traceback of torch."""
    torch.save({"state_dict": build_tiny().state_dict()}, tmp_path / "a.ckpt")
    narrow = ("MODEL.OVERRIDES", (*TINY, "MODEL.FPN.OUT_CHANNELS", 64))
    small = ("MODEL.CONFIG", "Panoptic-Cascade-Mask-R-CNN-Small.yaml", *narrow)
    config = build_config(None, [*small, "MODEL.CHECKPOINT", str(tmp_path / "a.ckpt")])
    for things, message in (((0, 1, 2), "weights of another network"), ((0, 1), "made for 3 thing and 4")):
        data: Any = SimpleNamespace(split=ThingStuffSplit(things, (3, 4, 5, 6)))
        with pytest.raises(UserError, match=rf"a\.ckpt: {message}"):
            build_model(config, data)


@pytest.mark.parametrize(
    ("value", "measured", "expected"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_build_model__channels_lie_together_where_it_is_faster_or_asked_for(
    value: bool | None, measured: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(stage2, "prefers_channels_last", lambda *args: asked.append(args) or measured)
    small = ("MODEL.CONFIG", "Panoptic-Cascade-Mask-R-CNN-Small.yaml", "MODEL.OVERRIDES", TINY)
    network = ("MODEL.BACKBONE_TYPE", "texton", "TRAINING.BATCH_SIZE", 8, "TRAINING.CHANNELS_LAST", value)
    data: Any = SimpleNamespace(split=ThingStuffSplit((0, 1), (2, 3, 4)))
    model = build_model(build_config(None, [*small, *network]), data)
    weight = next(p for p in model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last) == expected
    assert asked == ([("auto", 8)] if value is None else [])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there products may be rounded to 10 bits")
def test_prepare_process__products_of_32_bits_stay_so_on_a_cpu() -> None:
    """On processors with units for bf16, they kept 8 bits; what came after in the process, too."""
    prepare_process(build_config())
    assert torch.get_float32_matmul_precision() == "highest"
    rows = torch.randn((300, 300), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows @ rows, (rows.double() @ rows.double()).float(), rtol=1e-4, atol=1e-3)
