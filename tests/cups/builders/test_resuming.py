"""What a resumed run may not change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from cups.builders.resuming import refuse_another_run, refuse_another_start, stage_of
from cups.builders.stage2 import starting_weights
from cups.config import build_config, save_config
from cups.errors import UserError
from cups.training.recipe import CUPS_STAGE2, CUPS_STAGE3, Recipe
from cups.training.run_folder import last_checkpoint

STUDENT, TEACHER = {"model.a": torch.zeros(1)}, {"teacher_model.model.a": torch.zeros(1)}


def refuse(config: Any, folder: Path, stage: Recipe) -> None:
    refuse_another_run(config, folder, last_checkpoint(folder), stage)


def _run(folder: Path, pairs: list[Any], **state: Any) -> Path:
    last = last_checkpoint(folder)
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": {**STUDENT, **state}}, last)
    save_config(build_config(None, pairs), folder / "config.yaml")
    return folder


@pytest.mark.parametrize(
    ("key", "before", "now", "stage"),
    [
        ("TRAINING.OPTIMIZER", "sgd", "adamw", CUPS_STAGE2),
        ("TRAINING.OPTIMIZER", "adamw", "sgd", CUPS_STAGE3),
        ("MODEL.BACKBONE_TYPE", "resnet50", "dinov2_vitb14", CUPS_STAGE2),
        ("MODEL.CONFIG", None, "other.yaml", CUPS_STAGE2),
        ("MODEL.FREEZE_BACKBONE", True, False, CUPS_STAGE2),
        ("SELF_TRAINING.TRAINABLE", "heads", "all", CUPS_STAGE3),
        ("DATA.LABEL_FRACTION", 0.1, 0.2, CUPS_STAGE2),
        ("DATA.GROUND_TRUTH", True, False, CUPS_STAGE2),
        ("TRAINING.TRAINABLE", "heads", "all", CUPS_STAGE2),
    ],
)
def test_refuse_another_run__names_both_values_and_the_fix(
    key: str, before: Any, now: Any, stage: Recipe, tmp_path: Path
) -> None:
    """Each ended in a traceback of torch, deep inside."""
    teacher = TEACHER if stage is CUPS_STAGE3 else {}
    folder = _run(tmp_path / "run", [key, before], **teacher)
    refuse(build_config(None, [key, before, "TRAINING.STEPS", 9]), folder, stage)
    told = (
        f"{key} is {now}, but the run in {folder} began with {before}; go on with {key} {before}, or choose"
    )
    with pytest.raises(UserError, match=f"^{re.escape(told)} another `run_name`$"):
        refuse(build_config(None, [key, now]), folder, stage)


def test_refuse_another_run__of_before_a_key_was_there(tmp_path: Path) -> None:
    """It ran as the default says; with another value it would be another run."""
    folder = _run(tmp_path / "run", [])
    path, new = folder / "config.yaml", ("GROUND_TRUTH", "LABEL_FRACTION", "  TRAINABLE: all")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not any(key in line for key in new)))
    assert len(path.read_text().splitlines()) == len(lines) - 3
    refuse(build_config(), folder, CUPS_STAGE2)
    with pytest.raises(UserError, match=r"TRAINING\.TRAINABLE is heads, but .* began with all"):
        refuse(build_config(None, ["TRAINING.TRAINABLE", "heads"]), folder, CUPS_STAGE2)


def test_refuse_another_run__of_another_stage(tmp_path: Path) -> None:
    second = _run(tmp_path / "second", [])
    third = _run(tmp_path / "third", [], **TEACHER)
    with pytest.raises(
        UserError, match=r"third: its run is of Stage 3, not of Stage 2; choose another `run_n"
    ):
        refuse(build_config(), third, CUPS_STAGE2)
    with pytest.raises(
        UserError, match=r"its run is of Stage 2, not of Stage 3; .* by `checkpoint` .*last\.ckpt"
    ):
        refuse(build_config(), second, CUPS_STAGE3)


def test_refuse_another_run__keys_of_the_network_do_not_bind_stage_3(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", [], **TEACHER)
    refuse(build_config(None, ["MODEL.BACKBONE_TYPE", "texton"]), folder, CUPS_STAGE3)


def test_refuse_another_run__a_folder_without_checkpoint_is_left_alone(tmp_path: Path) -> None:
    refuse(build_config(), tmp_path, CUPS_STAGE2)
    assert stage_of([]) is None and stage_of({"state_dict": {}}) is None


def test_refuse_another_run__damaged_settings_are_named(tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", [])
    for text in ("A: [1", "- 1\n", "\x00"):
        (folder / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml: .*; remove it"):
            refuse(build_config(), folder, CUPS_STAGE2)


@pytest.mark.parametrize("stage", ["Stage 2", "Stage 3"])
def test_refuse_another_start__weights_of_other_content(tmp_path: Path, stage: str) -> None:
    """The run went on with its own, and its end passed for that of the weights given."""

    def given(name: str, value: float, **more: Any) -> Any:
        torch.save({"state_dict": {"model.w": torch.full((1,), value)}, **more}, tmp_path / name)
        return build_config(None, ["MODEL.CHECKPOINT", str(tmp_path / name)])

    begun = starting_weights(given("self.ckpt", 1.0))[0]
    told = {"weights": [begun]} if stage == "Stage 2" else {"checkpoint": "self.ckpt", **begun}
    run, last = tmp_path / "run", last_checkpoint(tmp_path / "run")
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": STUDENT, "hyper_parameters": {"provenance": told}}, last)
    same = (given("self.ckpt", 1.0, global_step=9), given("moved.ckpt", 1.0), build_config())
    for config in same:
        refuse_another_start(config, run, last)
    for name in ("self.ckpt", "other.ckpt"):
        with pytest.raises(
            UserError, match=f"{name}: not the weights that the run in .*/run began with; give"
        ):
            refuse_another_start(given(name, 2.0), run, last)
    refuse_another_start(given("self.ckpt", 2.0), run, tmp_path / "none.ckpt")
    torch.save({"state_dict": STUDENT}, last)  # of a version that kept no digest
    refuse_another_start(given("self.ckpt", 2.0), run, last)


def test_refuse_another_run__fewer_steps_than_it_has(tmp_path: Path) -> None:
    """It ended at once, and a network of 9 steps passed for one of 5."""
    folder = _run(tmp_path / "run", ["TRAINING.STEPS", 9])
    torch.save({"state_dict": STUDENT, "global_step": 9}, last_checkpoint(folder))
    refuse(build_config(None, ["TRAINING.STEPS", 9]), folder, CUPS_STAGE2)
    with pytest.raises(UserError, match="has 9 steps already, more than 5; choose another `run_"):
        refuse(build_config(None, ["TRAINING.STEPS", 5]), folder, CUPS_STAGE2)
