"""run_stage1.sh: every command it prints is one that its script understands."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cups.io.provenance import read_provenance
from tests.warm import warm_environment

Parses = Callable[[str, Sequence[str]], None]
ROOT = Path(__file__).resolve().parents[2]


def run(*flags: str | Path, expect: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script; return what it printed."""
    clean = {key: value for key, value in os.environ.items() if key != "CITYSCAPES_ROOT"} | warm_environment()
    command = ["bash", str(ROOT / "scripts" / "run_stage1.sh"), *map(str, flags)]
    result = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False)
    assert result.returncode == expect, result.stdout + result.stderr
    return result


def printed(*flags: str | Path) -> dict[str, list[str]]:
    """Return {script: arguments} of a dry run, in order."""
    output = run("--cityscapes_root", "/data/cityscapes", *flags, "--dry_run").stdout
    commands = [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("+ ")]
    return {Path(script).stem: arguments for _, script, *arguments in commands}


VARIANTS = {
    "default": (),
    "k50": ("--k50",),
    "refine": ("--refine",),
    "dinosaur": ("--dinosaur",),
    "everything": ("--k50", "--train", "--refine", "--dinosaur"),
    "texton": ("--k50", "--train", "--refine", "--dinosaur", "--backbone", "texton"),
}


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS)
def test_run_stage1__each_printed_command_parses(parses: Parses, flags: tuple[str, ...]) -> None:
    further = ("--executor", "local", "--num_shards", "2", "--max_images", "8", "--device", "cpu")
    commands = printed(*flags, *further)
    for script, arguments in commands.items():
        assert (ROOT / "pseudo_labels" / f"{script}.py").is_file()
        parses(f"pseudo_labels.{script}", arguments)


def test_run_stage1__the_steps() -> None:
    commands = printed()
    assert list(commands) == [
        "generate_semantic_pseudolabels_cause",
        "generate_overclustered_semantics",
        "generate_depth_spidepth",
        "classify_stuff_things",
        "generate_depth_guided_instances",
        "convert_to_cups_format",
    ]


@pytest.mark.parametrize(("flags", "k"), [((), 300), (("--k50",), 50)])
def test_run_stage1__names_no_classes(flags: tuple[str, ...], k: int) -> None:
    commands = printed(*flags)
    labels = commands["convert_to_cups_format"]
    assert "--mapping" not in commands["generate_overclustered_semantics"] and "--trainid_input" not in labels
    assert labels[-1].endswith(f"cups_pseudo_labels_raw_k{k}") and str(k) in labels


def test_run_stage1__a_plain_folder_takes_the_place_of_cityscapes(parses: Parses) -> None:
    output = run("--image_dir", "/photos", "--output_root", "/out", "--depth", "none", "--dry_run").stdout
    lines = [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("+ ")]
    for _, script, *arguments in lines:
        assert arguments[:4] == ["--image_dir", "/photos", "--output_root", "/out"]
        parses(f"pseudo_labels.{Path(script).stem}", arguments)
    commands = {Path(script).stem: arguments for _, script, *arguments in lines}
    assert "generate_depth_spidepth" not in commands
    assert commands["classify_stuff_things"][-1] == "--no_depth"
    assert "pseudo_instance_cc_raw_k300" in commands["convert_to_cups_format"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--image_dir", "/photos"), "--output_root: missing"),
        (("--image_dir", "/photos", "--output_root", "/out", "--depth", "disparity"), "only Cityscapes"),
        (("--image_dir", "/photos", "--cityscapes_root", "/city"), "--cityscapes_root"),
        (("--cityscapes_root", "/city", "--depth", "none", "--refine"), "--refine"),
    ],
)
def test_run_stage1__refuses_what_cannot_be(flags: tuple[str, ...], told: str) -> None:
    error = run(*flags, "--dry_run", expect=2).stderr
    assert told in error and len(error.splitlines()) == 1


def test_run_stage1__names_come_from_a_file() -> None:
    commands = printed("--names", "/names.json")
    assert "/names.json" in commands["generate_overclustered_semantics"]
    assert "classify_stuff_things" not in commands
    labels = commands["convert_to_cups_format"]
    assert "--trainid_input" in labels and labels[-1].endswith("cups_pseudo_labels_mapped_k300")


def test_run_stage1__dinosaur_takes_the_place_of_depth_splitting() -> None:
    commands = printed("--dinosaur")
    assert "generate_depth_guided_instances" not in commands
    assert "pseudo_instance_dinosaur_raw_k300" in commands["convert_to_cups_format"]


def test_run_stage1__textons_serve_the_slots_too() -> None:
    assert "extract_dinov3_features" in printed("--dinosaur")
    commands = printed("--dinosaur", "--k50", "--train", "--backbone", "texton")
    assert "extract_dinov3_features" not in commands and "texton" in commands["train_dinosaur"]


def test_run_stage1__trainings_see_all_images() -> None:
    commands = printed("--k50", "--train", "--num_shards", "4")
    assert "--num_shards" in commands["generate_semantic_pseudolabels_cause"]
    assert "--num_shards" not in commands["train_cause"] + commands["classify_stuff_things"]


def test_run_stage1__flags_for_one_script() -> None:
    commands = printed("--flags", "generate_depth_spidepth.py", "--max_depth 60")
    with_flag = [script for script, arguments in commands.items() if "--max_depth" in arguments]
    assert with_flag == ["generate_depth_spidepth"]


def test_run_stage1__further_flags_go_where_they_are_known() -> None:
    commands = printed("--max_images", "8", "--min_area", "500", "--k50")
    assert all(arguments[arguments.index("--max_images") + 1] == "8" for arguments in commands.values())
    with_flag = [script for script, arguments in commands.items() if "--min_area" in arguments]
    assert with_flag == ["generate_depth_guided_instances"]
    assert commands[with_flag[0]][-2:] == ["--min_area", "500"]


def test_run_stage1__a_flag_that_no_step_knows_is_refused() -> None:
    root = ("--cityscapes_root", "/data/cityscapes", "--dry_run")
    result = run(*root, "--max_images", "8", "--min_arae", "500", expect=2)
    assert result.stdout == ""
    assert result.stderr == "run_stage1.sh: --min_arae: no step of this run knows this flag\n"


def test_run_stage1__a_single_flag_for_one_script() -> None:
    assert (
        printed("--k50", "--train", "--flags", "train_cause", "--overwrite")["train_cause"][-1]
        == "--overwrite"
    )


def test_run_stage1__a_failed_step_ends_the_run_with_its_exit_code(
    write_city: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    """What a look beforehand cannot see: an image inside that does not open."""
    write_city(tmp_path, "small")
    sorted((tmp_path / "leftImg8bit").rglob("*.png"))[1].write_bytes(b"no image")
    flags = ("--backbone", "texton", "--train", "--depth", "disparity", "--num_workers", "0")
    result = run("--cityscapes_root", tmp_path, *flags, expect=2)
    started = [line for line in result.stdout.splitlines() if line.startswith("+ ")]
    assert len(started) == 1 and "train_cause" in started[0]
    assert "000001_leftImg8bit.png: cannot be decoded as an image" in result.stderr


def test_run_stage1__all_that_is_missing_at_once_before_the_first_step(
    write_city: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    write_city(tmp_path, "small")
    result = run("--cityscapes_root", tmp_path, "--output_root", tmp_path / "out", expect=2)
    assert "+ " not in result.stdout and not (tmp_path / "out").exists()
    lines = result.stderr.splitlines()
    assert all(line.startswith("run_stage1.sh: ") for line in lines)
    for missing in ("--backbone dinov2_vitb14", "the CAUSE heads", "the depth network"):
        assert sum(missing in line for line in lines) == 1


def test_run_stage1__root_from_the_environment() -> None:
    result = run("--dry_run", CITYSCAPES_ROOT="/data/city scapes")
    first = shlex.split(result.stdout.splitlines()[0])
    assert first[first.index("--cityscapes_root") + 1] == "/data/city scapes"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--cityscapes_root: missing"),
        (("--cityscapes_root", "/nowhere"), "/nowhere: holds no leftImg8bit/"),
        (("--cityscapes_root",), "--cityscapes_root: needs a value"),
        (("--split", "--k50"), "--split: needs a value"),
        (("--flags", "train_cause"), "--flags: needs"),
        (
            ("--flags", "train_cuase", "--raw", "--dry_run", "--cityscapes_root", "/nowhere"),
            "--flags train_cuase",
        ),
        (("--cityscapes_root", "/nowhere", "--dry_run", "--depth", "lidar"), "--depth:"),
        (("--cityscapes_root", "/nowhere", "--dry_run", "k50"), "k50: unknown"),
    ],
)
def test_run_stage1__bad_input_is_one_line_and_exit_2(flags: tuple[str, ...], message: str) -> None:
    result = run(*flags, expect=2)
    assert result.stderr.startswith(f"run_stage1.sh: {message}")
    assert len(result.stderr.splitlines()) == 1


def test_run_stage1__help() -> None:
    """By the Python that a user has."""
    assert "--dry_run" in run("--help", VIRTUAL_ENV="", PATH=os.environ["PATH"]).stdout


@pytest.mark.slow
def test_run_stage1__from_images_to_labels(write_city: Callable[[Path, str], Path], tmp_path: Path) -> None:
    """Run everything on four tiny frames, twice: the second run has nothing left to do."""
    root = write_city(tmp_path / "toy", "small")
    heads = "--codebook_steps 2 --head_steps 2 --probe_steps 2 --codebook_size 16 --batch_size 2"
    sizes = "--reduced_dim 8 --projection_dim 8 --hidden_dim 8"
    flags = ["--cityscapes_root", root, "--output_root", tmp_path / "out", "--k50", "--train"]
    flags += ["--backbone", "texton", "--depth", "disparity", "--num_workers", "0"]
    flags += ["--flags", "train_cause", f"{heads} {sizes}"]
    flags += ["--flags", "generate_depth_guided_instances", "--min_area 10"]
    flags += ["--flags", "classify_stuff_things", "--num_things 5"]
    run(*flags)
    labels = tmp_path / "out" / "cups_pseudo_labels_raw_k50"
    written = {path: path.stat().st_mtime_ns for path in labels.glob("*.png")}
    frames = len(list(root.glob("leftImg8bit/train/*/*.png")))
    assert len(written) == 2 * frames and len(list(labels.glob("*.pt"))) >= 1
    assert read_provenance(labels)["uses_ground_truth"] is False

    run(*flags)
    assert {path: path.stat().st_mtime_ns for path in labels.glob("*.png")} == written
