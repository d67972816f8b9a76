"""The description of Stage 1: which commands a run has, and what they carry."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pseudo_labels.steps.stage1 import ROOT, Command, Stage1Options, Stage1Steps, refined_folder

CITY = Path("/city")


def scripts(options: Stage1Options) -> list[str]:
    return [Path(command.script).stem for command in options.commands()]


def test_command__line_of_a_script_and_of_a_module() -> None:
    script = Command("x", "pseudo_labels/train_cause.py", ("--lr", "1"))
    assert script.line("py") == ["py", str(ROOT / "pseudo_labels" / "train_cause.py"), "--lr", "1"]
    assert Command("x", "cups.data.toy_streets", ()).line() == [sys.executable, "-m", "cups.data.toy_streets"]


def test_command__places_first_further_flags_last() -> None:
    further = {"train_cause": ("--lr", "1"), "generate_depth_spidepth": ("--max_depth", "60")}
    steps = Stage1Steps(CITY, Path("/out"), "texton", Path("/heads"), 3, 0, further=further, title="seed 3: ")
    command = steps.cause_heads("--batch_size", "2")
    assert command.name == "seed 3: CAUSE heads" and command.script == "pseudo_labels/train_cause.py"
    assert " ".join(command.arguments) == (
        "--cityscapes_root /city --output_root /out --num_workers 0 --split train "
        "--backbone texton --checkpoint_dir /heads --seed 3 --batch_size 2 --lr 1"
    )


def test_command__only_what_works_image_by_image_is_split() -> None:
    options = Stage1Options(CITY, executor="slurm", num_shards=4, train_heads=True, refine=True)
    split = {command.script for command in options.commands() if "--num_shards" in command.arguments}
    assert {Path(script).stem for script in split} == {
        "generate_semantic_pseudolabels_cause",
        "generate_overclustered_semantics",
        "generate_depth_spidepth",
        "generate_refined_semantics",
        "generate_depth_guided_instances",
    }
    # All others are one job each: the machine where the command is given is not the place for a training.
    assert all("--executor slurm" in " ".join(command.arguments) for command in options.commands())
    local = replace(options, executor="local").commands()
    assert all(("--executor" in c.arguments) == (c.script in split) for c in local)


def test_options__features_that_only_refine_net_reads_are_not_written() -> None:
    """22.6 GB for Cityscapes. DINOSAUR sees each image 200 times: its features stay."""
    plain, told = Stage1Options(CITY, refine=True, dinosaur=True), Stage1Options(CITY, with_features=True)
    assert "extract_dinov2_features" not in scripts(plain) and "extract_dinov3_features" in scripts(plain)
    assert "extract_dinov2_features" in scripts(told)


def test_options__trainings_come_before_what_reads_them() -> None:
    network = Path("/net")
    trained = Stage1Options(
        CITY, train_heads=True, train_depth=True, network=network, refine=True, dinosaur=True
    )
    order = scripts(trained)
    for training, reader in (
        ("train_cause", "generate_semantic_pseudolabels_cause"),
        ("train_spidepth", "generate_depth_spidepth"),
        ("train_refine_net", "generate_refined_semantics"),
        ("train_dinosaur", "generate_dinosaur_instances"),
        ("generate_refined_semantics", "generate_dinosaur_instances"),
    ):
        assert order.index(training) < order.index(reader)
    by_script = dict(zip(order, trained.commands(), strict=True))
    for name in ("train_spidepth", "generate_depth_spidepth"):
        assert by_script[name].arguments[-2:] == ("--checkpoint_dir", "/net")


@pytest.mark.parametrize(("named", "refine"), [(False, False), (True, False), (False, True)])
def test_options__all_read_the_semantics_that_were_written(named: bool, refine: bool) -> None:
    options = Stage1Options(CITY, k=7, names=Path("/names.json") if named else None, refine=refine)
    made = f"pseudo_semantic_{'mapped' if named else 'raw'}_k7"
    assert options.semantics == (refined_folder(made) if refine else made)
    by_script = {Path(command.script).stem: command.arguments for command in options.commands()}
    for name in ("generate_depth_guided_instances", "convert_to_cups_format"):
        assert options.semantics in by_script[name]
    labels = by_script["convert_to_cups_format"]
    assert labels[-1] == f"/city/cups_pseudo_labels_{options.semantics.removeprefix('pseudo_semantic_')}"
    if named:
        assert "/names.json" in by_script["generate_overclustered_semantics"]
        assert "--trainid_input" in labels and "classify_stuff_things" not in by_script
    else:
        assert made in by_script["classify_stuff_things"] and "7" in labels


def test_options__labels_of_another_split_than_maps() -> None:
    options = Stage1Options(CITY, split="all", label_split="train")
    splits = [command.arguments[command.arguments.index("--split") + 1] for command in options.commands()]
    assert splits == ["all", "all", "all", "train", "all", "train"]


def test_refined_folder__is_named_after_its_source() -> None:
    assert refined_folder("pseudo_semantic_raw_k50") == "pseudo_semantic_refined_raw_k50"


@pytest.mark.parametrize(("slots", "method"), [(False, "depth_guided"), (True, "dinosaur")])
def test_options__labels_of_objects_are_made_of_both_their_folders(slots: bool, method: str) -> None:
    options = Stage1Options(CITY, k=7, objects=30, dinosaur=slots)
    by_script = {Path(command.script).stem: command.arguments for command in options.commands()}
    assert scripts(options)[-2:] == ["generate_object_classes", "convert_to_cups_format"]
    objects, labels = by_script["generate_object_classes"], by_script["convert_to_cups_format"]
    assert "30" in objects and "pseudo_semantic_raw_k7" in objects
    assert (f"pseudo_instance_{method}_raw_k7" in objects) == slots
    assert "pseudo_semantic_objects_raw_k7" in labels and "--num_semantic_classes" not in labels
    assert (f"pseudo_instance_{method}_objects_raw_k7" in labels) == slots
    assert labels[-1] == "/city/cups_pseudo_labels_objects_raw_k7"
