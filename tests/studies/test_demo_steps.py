"""The demo's commands are ones that their scripts understand, in an order in which they can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from cups.data.cityscapes import list_ground_truth_frames
from cups.data.toy_streets import write_dataset
from cups.io.file_names import SPLIT_FILE
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance
from cups.ops.depth_edges import resize_depth
from cups.taxonomy import class_set
from pseudo_labels import classify_stuff_things, generate_depth_spidepth
from pseudo_labels.inputs.labels import read_split
from studies.demo_steps import demo_steps
from studies.toy_settings import FRAMES, PROPOSALS, TOY_DEPTH

Parses = Callable[[str, Sequence[str]], None]


@pytest.mark.parametrize("depth", list(PROPOSALS))
def test_demo_steps__each_stage_1_command_parses(parses: Parses, tmp_path: Path, depth: str) -> None:
    steps = demo_steps(tmp_path, workers=2, seed=0, depth=depth)
    stage_1 = [step for step in steps if step.script.startswith("pseudo_labels/")]
    assert len(stage_1) >= 8
    for step in stage_1:
        parses(step.script.removesuffix(".py").replace("/", "."), step.arguments)


@pytest.mark.parametrize("depth", ["learned", "trained"])
def test_demo_steps__learned_depth_reads_no_disparity(tmp_path: Path, depth: str) -> None:
    steps = demo_steps(tmp_path, workers=2, seed=0, depth=depth)
    names = [step.name for step in steps]
    assert names.index("depth") < names.index("instances")
    assert ("depth network" in names[: names.index("depth")]) == (depth == "trained")
    assert not any("disparity" in step.arguments for step in steps)


def test_demo_steps__depth_is_learned_unless_asked_otherwise(tmp_path: Path) -> None:
    """The demo shows what a user with single images gets."""
    assert demo_steps(tmp_path, 2, 0) == demo_steps(tmp_path, 2, 0, depth="learned")


@pytest.fixture(scope="module")
def unseen_city(make_folder: Callable[[str], Path]) -> Path:
    """A city that the toy depth network has not seen, with the depth of both, in `true/` and `seen/`."""
    root = make_folder("city")
    write_dataset(root, train_frames=5, val_frames=5, height=192, width=384, seed=7, workers=1)
    frames = ["--cityscapes_root", str(root), "--split", "val", "--num_workers", "0"]
    true, seen = (["--output_root", str(root / name)] for name in ("true", "seen"))
    generate_depth_spidepth.main([*frames, *true, "--source", "disparity"])
    generate_depth_spidepth.main([*frames, *seen, "--checkpoint_dir", str(TOY_DEPTH)])
    return root


def test_toy_depth__is_label_free_and_sees_depth(unseen_city: Path) -> None:
    """Correlation of log depth with that of the renderer's stereo; the row of a pixel alone gives less."""
    provenance = read_provenance(unseen_city / "seen" / "depth_spidepth")
    assert provenance is not None and provenance["uses_ground_truth"] is False
    maps = [
        np.stack(
            [
                resize_depth(np.load(file).astype(np.float32), (192, 384), sharp=name == "true")
                for file in sorted((unseen_city / name).rglob("*.npy"))
            ]
        )
        for name in ("true", "seen")
    ]
    known = maps[0] < 60
    row = np.broadcast_to(np.arange(192.0)[:, None], maps[0].shape)[known]
    true_log, seen_log = (np.log(depth[known]) for depth in maps)
    by_row = np.corrcoef(true_log, row)[0, 1]
    assert np.corrcoef(true_log, seen_log)[0, 1] > max(0.8, abs(by_row))


def test_outlines__learned_depth_tells_things_from_stuff(unseen_city: Path) -> None:
    """`demo.sh --depth learned` once ended here: with the outlines of stereo, no class was a thing."""
    classes = class_set(19)
    semantics = unseen_city / "seen" / "semantics"
    for frame in list_ground_truth_frames(unseen_city, "val"):
        semantic = classes.from_id[read_ids(frame.label_ids)].astype(np.uint8)
        write_png(semantics / "val" / frame.image.parent.name / f"{frame.stem}.png", semantic)
    where = ["--cityscapes_root", str(unseen_city), "--output_root", str(semantics.parent)]
    flags = ["--split", "val", "--semantic_subdir", semantics.name, "--num_semantic_classes", "19"]
    classify_stuff_things.main([*where, *flags])
    things = read_split(semantics / SPLIT_FILE).things
    names = {classes.names[index] for index in things}
    assert {"truck", "bus"} <= names
    assert not {"road", "sidewalk", "building", "vegetation", "terrain", "sky"} & names


def test_demo_steps__a_small_city_for_tests(tmp_path: Path) -> None:
    """Frames change the first command alone; unless told otherwise they are enough for an interval."""
    usual, small = (demo_steps(tmp_path, 2, 0, frames=frames) for frames in (FRAMES, (6, 3)))
    assert demo_steps(tmp_path, 2, 0) == usual and usual[1:] == small[1:]
    for steps, frames in ((usual, ("300", "150")), (small, ("6", "3"))):
        given = dict(zip(steps[0].arguments, steps[0].arguments[1:], strict=False))
        assert (given["--train_frames"], given["--val_frames"]) == frames


def test_demo_steps__names_are_different(tmp_path: Path) -> None:
    names = [step.name for step in demo_steps(tmp_path, workers=2, seed=0, depth="trained")]
    assert len(set(names)) == len(names), "records are named after steps"
