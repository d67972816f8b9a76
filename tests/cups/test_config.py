"""The configuration tree and its command line."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from cups.config import (
    EVALUATION,
    FLAGS,
    VAL_FLAGS,
    add_config_arguments,
    build_config,
    make_parser,
    parse_args,
    plain,
    save_config,
)
from cups.config_keys import KEYS, default_config, get, leaf_keys
from cups.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_build_config__precedence_flag_over_pair_over_yaml_over_default(tmp_path: Path) -> None:
    yaml_file = _write(tmp_path / "a.yaml", "TRAINING: {STEPS: 11, BATCH_SIZE: 12}\nDATA: {SCALE: 1}\n")
    config = build_config(
        yaml_file, ["TRAINING.STEPS", "22", "TRAINING.BATCH_SIZE", "23"], {"steps": 33, "lr": None}
    )
    assert config.TRAINING.STEPS == 33
    assert config.TRAINING.BATCH_SIZE == 23
    assert config.DATA.SCALE == 1.0
    assert config.TRAINING.PRECISION == default_config().TRAINING.PRECISION


def test_build_config__base_is_relative_to_its_file_and_comes_first(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    _write(tmp_path / "base.yaml", "TRAINING: {STEPS: 5, BATCH_SIZE: 6}\n")
    child = _write(tmp_path / "sub" / "child.yaml", "_BASE_: ../base.yaml\nTRAINING: {STEPS: 7}\n")
    config = build_config(child)
    assert (config.TRAINING.STEPS, config.TRAINING.BATCH_SIZE) == (7, 6)


def test_build_config__circular_base_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "_BASE_: b.yaml\n")
    _write(tmp_path / "b.yaml", "_BASE_: a.yaml\n")
    with pytest.raises(UserError, match="leads back to itself"):
        build_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("key", "near"),
    [("TRAINING.STEPPS", "TRAINING.STEPS"), ("TRAINING.LOG_EVERT_N_STEPS", "TRAINING.LOG_EVERY_N_STEPS")],
)
def test_build_config__misspelt_key_names_the_nearest(tmp_path: Path, key: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"command line: unknown key {key}; did you mean {near}\?"):
        build_config(None, [key, "1"])
    section, name = key.split(".")
    yaml_file = _write(tmp_path / "bad.yaml", f"{section}:\n  {name}: 1\n")
    with pytest.raises(UserError, match=rf"bad\.yaml: unknown key {key}; did you mean {near}\?"):
        build_config(yaml_file)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["TRAINING.STEPS", "0"], "TRAINING.STEPS is 0; it must be at least 1"),
        (["TRAINING.STEPS", "many"], "TRAINING.STEPS takes a value of type int, not 'many'"),
        (["TRAINING.PRECISION", "bf61"], "TRAINING.PRECISION is 'bf61'; choose from auto, bf16, fp16"),
        (["DATA.NUM_CLASSES", "20"], "DATA.NUM_CLASSES is 20; choose from 27, 19, 7"),
        (["DATA.THING_STUFF_THRESHOLD", "1.5"], "it must lie in 0-1, or None"),
        (["DATA.CROP_RESOLUTION", "(640,)"], r"must be \(height, width\)"),
        (["SELF_TRAINING.CROP_RESOLUTION", "64"], r"must be \(height, width\)"),
        (["SELF_TRAINING.LEARNING_RATE", "fast"], "it must be a number, or None"),
        (["SELF_TRAINING.CROP_HEIGHTS", "(1.0, 0.5)"], "two rising shares of the height"),
        (["MODEL.TTA_SCALES", "()"], "it must be scales above 0"),
        (
            ["MODEL.BACKBONE_TYPE", "texton", "MODEL.FREEZE_BACKBONE", "False"],
            "texton backbone has no weights",
        ),
        (["TRAINING.STEPS"], "TRAINING.STEPS has no value"),
        (["MODEL.OVERRIDES", "('A.B',)"], "it must be a mapping"),
        (["MODEL.TTA_SCALES", "('large',)"], "it must be scales above 0"),
        (["DATA.MAX_IMAGES", "none"], "it must be a whole number, or None"),
        (["SYSTEM.NUM_WORKERS", "-1"], "SYSTEM.NUM_WORKERS is -1; it must be at least 0"),
        (["AUGMENTATION.RESOLUTIONS", "((64,),)"], r"it must be a list of \(height, width\)"),
        (["TRAINING.STEPS", "None"], "TRAINING.STEPS is None; it must be a whole number"),
        (["TRAINING.ADAMW.LEARNING_RATE", "1e400"], "LEARNING_RATE is inf; it must be a number"),
        (["TRAINING.SGD.WEIGHT_DECAY", "-1"], "WEIGHT_DECAY is -1.0; it must be at least 0"),
        (["SYSTEM.SEED", "4294967296"], "SYSTEM.SEED is 4294967296; it must be at most 4294967295"),
        (["SYSTEM.RUN_NAME", ".."], r"SYSTEM.RUN_NAME is '..'; it must be a name: no /, not \.\."),
        (["DATA.ROOT", ""], "DATA.ROOT is ''; it must be a path: not empty"),
        (["MODEL.TTA_SCALES", "None"], "it must be scales above 0"),
        (["SELF_TRAINING.VAL_EVERY_N_STEPS", "0.5"], "it must be a whole number, or None"),
        (["TRAINING.STEPS", "(" * 5000], "TRAINING.STEPS takes a value of type int, not '[(]{96}[.]{3}$"),
        (["VALIDATION.VOID_RULE", "torch"], "choose from standard, upstream"),
    ],
)
def test_build_config__impossible_values_are_named(pairs: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_config(None, pairs)


def test_build_config__missing_or_broken_yaml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        build_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="not valid YAML"):
        build_config(_write(tmp_path / "x.yaml", "A: [1\n"))
    with pytest.raises(UserError, match="holds no sections"):
        build_config(_write(tmp_path / "y.yaml", "- 1\n"))


def test_build_config__numbers_written_loosely(tmp_path: Path) -> None:
    """yacs alone refuses an int for a float key, and YAML reads 1e-4 as text."""
    yaml_file = _write(
        tmp_path / "a.yaml", "TRAINING: {GRADIENT_CLIP_VAL: 2, ADAMW: {LEARNING_RATE: 1e-3}}\n"
    )
    pairs = ["DATA.SCALE", "1", "TRAINING.PRECISION", "32", "DATA.CROP_RESOLUTION", "[64, 128]"]
    config = build_config(yaml_file, pairs)
    assert config.TRAINING.GRADIENT_CLIP_VAL == 2.0
    assert config.TRAINING.ADAMW.LEARNING_RATE == 1e-3
    assert config.DATA.SCALE == 1.0
    assert config.TRAINING.PRECISION == "32"
    assert tuple(config.DATA.CROP_RESOLUTION) == (64, 128)


def test_build_config__several_bases_in_order(tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "TRAINING: {STEPS: 1, BATCH_SIZE: 2}\n")
    _write(tmp_path / "b.yaml", "_BASE_: a.yaml\nTRAINING: {BATCH_SIZE: 3}\n")
    _write(tmp_path / "c.yaml", "TRAINING: {ACCUMULATE_GRAD_BATCHES: 4, BATCH_SIZE: 5}\n")
    both = _write(tmp_path / "d.yaml", "_BASE_: [c.yaml, b.yaml]\nDATA: {SCALE: 1}\n")
    training = build_config(both).TRAINING
    assert (training.STEPS, training.BATCH_SIZE, training.ACCUMULATE_GRAD_BATCHES) == (1, 3, 4)
    twice = _write(tmp_path / "e.yaml", "_BASE_: [a.yaml, b.yaml]\n")
    assert build_config(twice).TRAINING.BATCH_SIZE == 3, "a base met again is no circle"


LIST = ["MODEL.FPN.OUT_CHANNELS", 64, "MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST", True]


@pytest.mark.parametrize(
    "written",
    [
        "{MODEL.FPN.OUT_CHANNELS: 64, MODEL.PANOPTIC_FPN.COMBINE.THINGS_FIRST: True}",
        "{MODEL: {FPN: {OUT_CHANNELS: 64}, PANOPTIC_FPN: {COMBINE: {THINGS_FIRST: True}}}}",
        "{MODEL.FPN: {OUT_CHANNELS: 64}, MODEL: {PANOPTIC_FPN.COMBINE.THINGS_FIRST: True}}",
        str(LIST),
    ],
)
def test_build_config__overrides_as_mapping_or_list(tmp_path: Path, written: str) -> None:
    """Checkpoints and the configs of earlier runs hold the list; both forms resolve to it."""
    config = build_config(_write(tmp_path / "a.yaml", f"MODEL:\n  OVERRIDES: {written}\n"))
    assert plain(config)["MODEL"]["OVERRIDES"] == LIST
    assert plain(build_config(None, ["MODEL.OVERRIDES", str(LIST)]))["MODEL"]["OVERRIDES"] == LIST


def test_build_config__overrides_replace_those_of_the_base(tmp_path: Path) -> None:
    _write(tmp_path / "a.yaml", "MODEL: {OVERRIDES: {A.B: 1, A.C: 2}}\n")
    child = _write(tmp_path / "b.yaml", "_BASE_: a.yaml\nMODEL: {OVERRIDES: {A.B: 3}}\n")
    assert tuple(build_config(child).MODEL.OVERRIDES) == ("A.B", 3)
    none = _write(tmp_path / "c.yaml", "_BASE_: a.yaml\nMODEL: {OVERRIDES: {}}\n")
    assert tuple(build_config(none).MODEL.OVERRIDES) == ()


def test_build_config__text_that_looks_like_a_number(tmp_path: Path) -> None:
    """A folder of labels named 2026 was read as a number, and `Path` refused it."""
    config = build_config(None, ["MODEL.CHECKPOINT", "2026"], {"pseudo_root": "1e3", "run_name": "7"})
    assert (config.MODEL.CHECKPOINT, config.DATA.ROOT_PSEUDO, config.SYSTEM.RUN_NAME) == ("2026", "1e3", "7")
    assert build_config(None, ["MODEL.CHECKPOINT", "None"]).MODEL.CHECKPOINT is None


def test_parse_args__a_script_refuses_flags_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    """val.py took --lr and seven more without reading them; --batch_size left VALIDATION.BATCH_SIZE at 4."""
    parser = make_parser("")
    add_config_arguments(parser, VAL_FLAGS)
    _, config = parse_args(parser, ["--batch_size", "1"])
    assert (config.VALIDATION.BATCH_SIZE, config.TRAINING.BATCH_SIZE) == (1, 16)
    training = ("--pseudo_root", "--lr", "--steps", "--num_gpus", "--val_every", "--accumulate_grad")
    for flag in (*training, "--disable_wandb"):
        with pytest.raises(SystemExit) as stopped:
            parse_args(parser, [flag, "1"])
        assert stopped.value.code == 2 and f"unrecognized arguments: {flag}" in capsys.readouterr().err


def test_parse_args__no_shortened_flags(capsys: pytest.CaptureFixture[str]) -> None:
    parser = make_parser("")
    add_config_arguments(parser)
    with pytest.raises(SystemExit):
        parse_args(parser, ["--batch", "1"])
    assert "--batch" in capsys.readouterr().err


def test_parse_args__print_config_can_be_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = make_parser("")
    add_config_arguments(parser)
    with pytest.raises(SystemExit) as stopped:
        parse_args(parser, ["--print_config", "--steps", "7", "DATA.CROP_RESOLUTION", "(64, 128)"])
    assert stopped.value.code == 0
    config = build_config(_write(tmp_path / "printed.yaml", capsys.readouterr().out))
    assert config.TRAINING.STEPS == 7 and tuple(config.DATA.CROP_RESOLUTION) == (64, 128)


def test_parse_args__flags_after_pairs_are_not_swallowed() -> None:
    """Upstream's argparse remainder takes `--disable_wandb` after a pair for a key."""
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    _, config = parse_args(parser, ["TRAINING.STEPS", "3", "--disable_wandb", "--batch_size", "2"])
    assert (config.TRAINING.STEPS, config.TRAINING.BATCH_SIZE, config.SYSTEM.WANDB) == (3, 2, False)


def test_flags__data_root_is_what_is_trained_on_or_evaluated() -> None:
    """It set both in training: own images had to hold ground truth."""
    data = build_config(None, (), {"data_root": "/somewhere"}).DATA
    assert (data.ROOT, data.ROOT_VAL) == ("/somewhere", None)
    table = [flag for group in VAL_FLAGS for flag in group]
    assert build_config(None, (), {"data_root": "/somewhere"}, table).DATA.ROOT_VAL == "/somewhere"


def test_flags__every_key_exists() -> None:
    known = set(leaf_keys(default_config()))
    assert {key for flag in (*FLAGS, *EVALUATION) for key in flag.keys} <= known == set(KEYS)


def test_save_config__can_be_read_back(tmp_path: Path) -> None:
    config = build_config(None, ["TRAINING.STEPS", "77", "MODEL.OVERRIDES", "('A.B', 1)"])
    save_config(config, tmp_path / "config.yaml")
    assert plain(build_config(tmp_path / "config.yaml")) == plain(config)


def test_leaf_keys__every_key_has_a_reader() -> None:
    """A dead key that looks like the method misleads its user (upstream has a dozen)."""
    sources = [*(ROOT / "cups").rglob("*.py"), *ROOT.glob("*.py"), *(ROOT / "scripts").glob("*.py")]
    rows = ("config.py", "config_keys.py", *(ROOT / "cups" / "configuration").glob("*.py"))
    text = "\n".join(file.read_text() for file in sources if file not in rows and file.name not in rows)
    unread = []
    for key in leaf_keys(default_config()):
        name = key.split(".")[-1]
        if not re.search(rf"\.{name}\b", text):
            unread.append(key)
    assert unread == []


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_configs__all_shipped_files_load(file: Path) -> None:
    config = build_config(file)
    assert get(config, "TRAINING.STEPS") > 0
    assert file.read_text().startswith("#"), "say in a header comment what it is for and what it needs"


def test_parse_args__pairs_of_the_environment_win(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A launch script's command line is fixed; what overrides it is said in the log."""
    monkeypatch.setenv("CUPS_OPTS", "TRAINING.STEPS 2 DATA.CROP_RESOLUTION '(96, 192)'")
    parser = make_parser("")
    add_config_arguments(parser)
    _, config = parse_args(parser, ["--steps", "8000", "TRAINING.STEPS", "50", "TRAINING.BATCH_SIZE", "3"])
    assert (config.TRAINING.STEPS, config.TRAINING.BATCH_SIZE) == (2, 3)
    assert tuple(config.DATA.CROP_RESOLUTION) == (96, 192)
    assert "CUPS_OPTS overrides the command line: TRAINING.STEPS 2" in caplog.text
    for text, message in (
        ("TRAINING.STEPS", "CUPS_OPTS: TRAINING.STEPS has no value"),
        ("TRAINING.STEP 2", "CUPS_OPTS: unknown key TRAINING.STEP; did you mean TRAINING.STEPS"),
        ("TRAINING.STEPS '2", "CUPS_OPTS: No closing quotation"),
    ):
        monkeypatch.setenv("CUPS_OPTS", text)
        with pytest.raises(UserError, match=re.escape(message)):
            parse_args(parser, [])
