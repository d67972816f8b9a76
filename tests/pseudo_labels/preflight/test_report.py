"""The look before the first step: all that is missing at once, and the amounts that steps really take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cups.errors import UserError
from pseudo_labels import (
    extract_dinov2_features,
    generate_depth_spidepth,
    generate_semantic_pseudolabels_cause,
    train_cause,
)
from pseudo_labels.networks.depth_network import build_depth_network, save_depth_network
from pseudo_labels.preflight import report
from pseudo_labels.preflight.checks import CHECKS
from pseudo_labels.preflight.cost import LABEL_BYTES_PER_ROW
from pseudo_labels.preflight.report import amount, duration, examine, preflight
from pseudo_labels.settings.depth import DepthSettings
from pseudo_labels.steps.folders import CODES_FOLDER, DEPTH_FOLDER
from pseudo_labels.steps.stage1 import Command, Stage1Options
from tests.pseudo_labels.textures import SMALL

FRAMES = 4


@pytest.fixture(scope="module")
def streets(make_folder: Callable[[str], Path], write_city: Callable[[Path, str], Path]) -> Path:
    return write_city(make_folder("streets"), "small")


def options(streets: Path, out: Path) -> Stage1Options:
    return Stage1Options(streets, out, num_workers=0)


def command(name: str, *arguments: str | Path) -> Command:
    return Command(name, f"pseudo_labels/{name}.py", tuple(map(str, arguments)))


@pytest.mark.parametrize("backbone", ["dinov2_vitb14", "texton"])
@pytest.mark.parametrize("dinosaur", [False, True])
@pytest.mark.parametrize("source", ["spidepth", "disparity"])
def test_checks__are_there_for_every_step_of_every_run(
    streets: Path, tmp_path: Path, backbone: str, dinosaur: bool, source: str
) -> None:
    run = replace(options(streets, tmp_path), backbone=backbone, dinosaur=dinosaur, source=source)
    run = replace(run, refine=True, train_heads=True, train_depth=True, network=tmp_path / "spidepth")
    commands = replace(run, with_features=True).commands()
    assert {Path(step.script).stem for step in commands} <= CHECKS.keys()
    needs = examine(commands)
    assert [need.name for need in needs] == [step.name for step in commands]
    assert all(need.work for need in needs)


def test_preflight__all_problems_at_once(streets: Path, tmp_path: Path) -> None:
    run = replace(options(streets, tmp_path), dinosaur=True)
    with pytest.raises(UserError) as raised:
        preflight(run.commands(), tmp_path, timed=False)
    lines = str(raised.value).splitlines()
    for missing in ("`backbone` dinov2_vitb14", "CAUSE heads", "depth network", "`backbone` dinov3_vitb16"):
        assert sum(missing in line for line in lines) == 1
    assert len(lines) == 4 and not list(tmp_path.iterdir())


def test_preflight__what_an_earlier_step_makes_is_not_missing(streets: Path, tmp_path: Path) -> None:
    run = replace(options(streets, tmp_path), backbone="texton", train_heads=True, source="disparity")
    table = preflight(run.commands(), tmp_path, timed=False)
    assert table.splitlines()[0].split() == ["step", "to", "do", "disk"]
    assert f"{FRAMES} images" in table and "500 steps" in table
    without = replace(run, train_heads=False)
    with pytest.raises(UserError, match=r"cause_texton/segment_tr\.pth: no such file, the CAUSE heads"):
        preflight(without.commands(), tmp_path, timed=False)


@pytest.mark.parametrize(
    ("gone", "flags", "message"),
    [
        ("disparity", ("generate_depth_spidepth", "--source", "disparity"), "unpack the disparity package"),
        ("camera", ("generate_depth_spidepth", "--source", "disparity"), "unpack the camera package"),
        ("camera", ("train_spidepth",), "unpack the cameras beside leftImg8bit"),
        ("gtFine", ("generate_overclustered_semantics", "--mapping", "oracle"), "reads ground truth there"),
    ],
)
def test_preflight__inputs_of_single_images(
    streets: Path, tmp_path: Path, gone: str, flags: tuple[str, ...], message: str
) -> None:
    for folder in ("leftImg8bit", "disparity", "camera", "gtFine"):
        if folder != gone:
            (tmp_path / folder).symlink_to(streets / folder)
    script, *more = flags
    with pytest.raises(UserError, match=message):
        preflight([command(script, "--cityscapes_root", tmp_path, *more)], tmp_path, timed=False)


def test_preflight__the_disk(streets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(options(streets, tmp_path), backbone="texton", train_heads=True, source="disparity")
    monkeypatch.setattr(report, "free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"free, .* needed; give another `output_root`"):
        preflight(run.commands(), tmp_path, timed=False)


def written(folder: Path, suffix: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(f"*{suffix}"))


def test_need__is_what_the_steps_write(streets: Path, tmp_path: Path) -> None:
    """Features, codes and depth are the large files: their size is known to the header of each."""
    common = ("--cityscapes_root", str(streets), "--output_root", str(tmp_path))
    heads = ("--backbone", "texton", "--checkpoint_dir", str(tmp_path / "heads"))
    settings = DepthSettings("test_resnet", 8, 8, 4, 4, (16, 12, 8, 8), 16, height=64, width=128)
    save_depth_network(tmp_path / "net", build_depth_network(settings), None, settings)
    train_cause.main([*common, *heads, *(str(word) for word in SMALL), "--reduced_dim", "90"])
    for script, flags, folder in (
        (extract_dinov2_features, ("--backbone", "texton"), "features_texton"),
        (generate_semantic_pseudolabels_cause, heads, CODES_FOLDER),
        (generate_depth_spidepth, ("--checkpoint_dir", str(tmp_path / "net")), DEPTH_FOLDER),
    ):
        step = command(script.__name__.rpartition(".")[2], *common, *flags)
        (before,) = examine([step])
        script.main([*common, *flags])
        labels = LABEL_BYTES_PER_ROW * 64 * FRAMES if folder == CODES_FOLDER else 0
        headers = (128 + 16) * FRAMES  # and the checksum at the end
        assert before.size == written(tmp_path / folder, ".npy") - headers + labels
        (after,) = examine([step])
        assert (after.size, after.flops, after.work) == (0, 0, "done")


def test_words() -> None:
    assert [amount(count) for count in (0, 2**20, 3 * 2**29)] == ["", "1 MB", "1.5 GB"]
    assert [duration(seconds) for seconds in (0.2, 90, 900, 3e4, 1e6)] == [
        "",
        "~90 s",
        "~15 min",
        "~8 h",
        "~12 days",
    ]
