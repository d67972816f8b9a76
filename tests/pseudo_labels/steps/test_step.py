"""The frame walk and the runner that all Stage-1 scripts share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import read_npy, write_npy
from cups.io.png import read_image, write_png
from cups.io.provenance import read_provenance
from pseudo_labels.steps.step import Folder, Frame, add_batch_argument, list_frames, make_parser, run_stage


def arguments(*flags: object) -> argparse.Namespace:
    return make_parser("test").parse_args([str(flag) for flag in flags])


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    for index, city in enumerate(("bbb", "aaa", "aaa")):
        stem = f"{city}_{index:06}_000000"
        image = np.full((8, 16, 3), index, dtype=np.uint8)
        write_png(tmp_path / "leftImg8bit" / "train" / city / f"{stem}_leftImg8bit.png", image)
    return tmp_path


def darken(output: Folder, frame: Frame) -> None:
    write_png(output.path(frame), read_image(frame.image)[..., 0].copy())


def run(args: argparse.Namespace, root: Path, **more: object) -> tuple[Folder, object]:
    output = Folder(root, "pseudo_test", ".png")
    process: Callable[[Frame], None] = partial(darken, output)
    return output, run_stage(list_frames(args), process, [output], args, script="test", **more)  # type: ignore[arg-type]


def test_list_frames__cityscapes_sorted_with_relative_folders(cityscapes: Path) -> None:
    frames = list_frames(arguments("--cityscapes_root", cityscapes, "--split", "all"))
    assert [frame.stem for frame in frames] == ["aaa_000001_000000", "aaa_000002_000000", "bbb_000000_000000"]
    assert frames[0].relative == Path("train/aaa")


def test_list_frames__plain_folder_keeps_sub_folders(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "day" / "one.png", np.zeros((4, 4, 3), dtype=np.uint8))
    (frame,) = list_frames(arguments("--image_dir", tmp_path / "in", "--output_root", tmp_path))
    assert (frame.stem, frame.relative) == ("one", Path("day"))


def test_list_frames__shards_are_disjoint_and_complete(cityscapes: Path) -> None:
    parts = [
        list_frames(arguments("--cityscapes_root", cityscapes, "--num_shards", 2, "--shard", shard))
        for shard in range(2)
    ]
    assert len({frame.stem for part in parts for frame in part}) == sum(map(len, parts)) == 3


def test_list_frames__bad_input(cityscapes: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        list_frames(arguments("--cityscapes_root", cityscapes / "nowhere"))
    with pytest.raises(UserError, match="val: no such folder"):
        list_frames(arguments("--cityscapes_root", cityscapes, "--split", "val"))
    (cityscapes / "leftImg8bit" / "val").mkdir()
    with pytest.raises(UserError, match="no images inside"):
        list_frames(arguments("--cityscapes_root", cityscapes, "--split", "val"))
    with pytest.raises(UserError, match="--shard 2"):
        list_frames(arguments("--cityscapes_root", cityscapes, "--num_shards", 2, "--shard", 2))
    with pytest.raises(UserError, match="either"):
        list_frames(arguments())


def test_run_stage__resumes_and_redoes_what_is_cut_short(cityscapes: Path) -> None:
    args = arguments("--cityscapes_root", cityscapes)
    output, summary = run(args, cityscapes)
    assert (summary.done, summary.skipped) == (3, 0)  # type: ignore[attr-defined]
    path = output.path(list_frames(args)[0])
    path.write_bytes(path.read_bytes()[:-4])
    _, summary = run(args, cityscapes)
    assert (summary.done, summary.skipped) == (1, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 2])
def test_run_stage__truncated_image_is_named(cityscapes: Path, workers: int) -> None:
    args = arguments("--cityscapes_root", cityscapes, "--num_workers", workers)
    bad = list_frames(args)[1].image
    bad.write_bytes(bad.read_bytes()[:-10])
    with pytest.raises(UserError, match=bad.name):
        run(args, cityscapes)
    args.skip_bad = True
    output, summary = run(args, cityscapes)
    assert len(summary.failures) == 1  # type: ignore[attr-defined]
    failures = json.loads((output.directory / "failures.json").read_text())
    assert list(failures) == ["train/aaa/aaa_000002_000000"]


def test_run_stage__shards_keep_one_list_of_failures(cityscapes: Path) -> None:
    def shard(number: int, of: int) -> argparse.Namespace:
        flags = ("--num_shards", of, "--shard", number, "--skip_bad")
        return arguments("--cityscapes_root", cityscapes, *flags)

    images = [frame.image for frame in list_frames(shard(0, 1))]
    whole = [image.read_bytes() for image in images]
    for image in images[:2]:
        image.write_bytes(image.read_bytes()[:-10])
    for number in (1, 0):
        output, _ = run(shard(number, 2), cityscapes)
    failures = output.directory / "failures.json"
    assert list(json.loads(failures.read_text())) == [
        "train/aaa/aaa_000001_000000",
        "train/aaa/aaa_000002_000000",
    ]
    images[1].write_bytes(whole[1])
    run(shard(1, 2), cityscapes)  # mended: its entry goes, the other shard's stays
    assert list(json.loads(failures.read_text())) == ["train/aaa/aaa_000001_000000"]
    images[0].write_bytes(whole[0])
    run(shard(0, 1), cityscapes)
    assert not failures.exists()


def test_run_stage__one_overwriting_shard_forgets_nothing_about_the_others(cityscapes: Path) -> None:
    output, _ = run(arguments("--cityscapes_root", cityscapes), cityscapes, uses_ground_truth=True)
    args = arguments("--cityscapes_root", cityscapes, "--num_shards", 2, "--shard", 0, "--overwrite")
    run(args, cityscapes)
    assert (read_provenance(output.directory) or {})["uses_ground_truth"] is True
    args = arguments("--cityscapes_root", cityscapes, "--overwrite")
    run(args, cityscapes)
    assert (read_provenance(output.directory) or {})["uses_ground_truth"] is False


def test_run_stage__other_settings_are_refused(cityscapes: Path) -> None:
    output, _ = run(arguments("--cityscapes_root", cityscapes), cityscapes)
    other = arguments("--cityscapes_root", cityscapes, "--seed", 1)
    with pytest.raises(UserError, match="--seed 0"):
        run(other, cityscapes)
    other.overwrite = True
    run(other, cityscapes)
    assert (read_provenance(output.directory) or {})["arguments"]["seed"] == 1


def test_run_stage__ground_truth_of_kept_files_is_not_forgotten(cityscapes: Path) -> None:
    args = arguments("--cityscapes_root", cityscapes)
    output, _ = run(args, cityscapes, uses_ground_truth=True)
    run(args, cityscapes, uses_ground_truth=False)
    assert (read_provenance(output.directory) or {})["uses_ground_truth"] is True


@pytest.mark.parametrize(
    "script",
    [
        *("train_cause", "train_spidepth", "train_dinosaur", "train_refine_net", "train_joint_refine_net"),
        *("classify_stuff_things", "overclustering_cause"),
    ],
)
def test_make_parser__trainings_and_statistics_have_no_shards(
    script: str, cityscapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train_... --num_shards 8 --shard 0` trained on an eighth of the images and said nothing."""
    main = import_module(f"pseudo_labels.{script}").main
    for flags in (["--num_shards", "2"], ["--shard", "1"], ["--executor", "local"]):
        with pytest.raises(SystemExit) as exit_code:
            main(["--cityscapes_root", str(cityscapes), *flags])
        assert exit_code.value.code == 2
        assert flags[0] in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-3"])
def test_add_batch_argument__refuses_no_images_at_once(size: str) -> None:
    parser = make_parser("test")
    add_batch_argument(parser, 4)
    assert parser.parse_args([]).batch_size == 4
    with pytest.raises(UserError, match=f"--batch_size {size}: must be at least 1"):
        parser.parse_args(["--batch_size", size])
    with pytest.raises(SystemExit):
        parser.parse_args(["--batch_size", "many"])


def test_read_npy__bad_files(tmp_path: Path) -> None:
    path = tmp_path / "codes.npy"
    with pytest.raises(UserError, match="no such file"):
        read_npy(path)
    write_npy(path, np.zeros((3, 4), dtype=np.float16))
    with pytest.raises(UserError, match=r"codes\.npy: array of shape \(3, 4\)"):
        read_npy(path, ndim=3)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="unreadable"):
        read_npy(path)
