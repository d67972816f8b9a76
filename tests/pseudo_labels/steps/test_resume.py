"""What an earlier run left: which files may stay beside those of this run, and which are made again."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.files import write_json
from cups.io.png import read_ids, write_png
from cups.io.provenance import read_provenance, write_provenance
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.resume import IMAGES, continued_training, training_provenance
from pseudo_labels.steps.step import Step, Summary, run_step


@dataclass(frozen=True)
class Value(Settings):
    """Value."""

    value: int = flag(1, "what is written")


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Three images of the training split and two of the validation split."""
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            path = tmp_path / "leftImg8bit" / split / "aaa" / f"{split}_{index:06}_000000_leftImg8bit.png"
            write_png(path, np.random.default_rng(index).integers(0, 255, (8, 16, 3), dtype=np.uint8))
    return tmp_path


def write_value(output: Folder, value: int, frame: Frame) -> None:
    write_png(output.path(frame), np.full((2, 2), value, np.uint8))


def run(
    root: Path,
    value: int = 1,
    split: str = "train",
    max_images: int | None = None,
    how: FrameRun | None = None,
    image_dir: Path | None = None,
    **more: Any,
) -> Summary:
    output = Folder(root, "pseudo_test", ".png")
    where: dict[str, Any] = {"image_dir": image_dir} if image_dir else {"cityscapes_root": root}
    source = FrameSource(**where, split=split, max_images=max_images)
    step = Step("test", Value(value), partial(write_value, output, value), [output], **more)
    return run_step(source, step, how or FrameRun(output_root=root))


def counts(summary: Summary) -> tuple[int, int]:
    return summary.done, summary.skipped


def values(root: Path) -> list[int]:
    return [int(read_ids(path)[0, 0]) for path in sorted((root / "pseudo_test").rglob("*.png"))]


def test_account__another_split_with_other_settings_is_refused(streets: Path) -> None:
    run(streets)
    message = (
        r"made with `value` 1, 3 of images not in this run \(train_000000_000000.png \.\.\.\); repeat it"
    )
    with pytest.raises(UserError, match=message):
        run(streets, 2, "val")
    with pytest.raises(UserError, match="`split` all"):
        run(streets, 2, "val", how=FrameRun(overwrite=True))
    assert values(streets) == [1, 1, 1]
    assert counts(run(streets, 1, "val")) == (2, 0)
    run(streets, 2, "all", how=FrameRun(overwrite=True))
    assert values(streets) == [2] * 5


@pytest.mark.parametrize("overwrite", [False, True])
def test_account__another_shard_with_other_settings_is_refused(streets: Path, overwrite: bool) -> None:
    run(streets, 1, how=FrameRun(num_shards=2, shard=0))
    with pytest.raises(UserError, match="no `shard`"):
        run(streets, 2, how=FrameRun(num_shards=2, shard=1, overwrite=overwrite))
    assert values(streets) == [1, 1]


def test_account__shards_of_one_run_may_overwrite_all(streets: Path) -> None:
    run(streets)
    for shard in (0, 1):
        run(streets, 2, how=FrameRun(num_shards=2, shard=shard, overwrite=True, run_id="a"))
    assert values(streets) == [2, 2, 2]


def test_account__a_trial_of_few_images_does_not_overwrite_a_part(streets: Path) -> None:
    run(streets)
    with pytest.raises(UserError, match="2 of images not in this run"):
        run(streets, 2, max_images=1, how=FrameRun(overwrite=True))
    assert values(streets) == [1, 1, 1]


def test_account__a_killed_overwrite_leaves_nothing_of_the_old_files(streets: Path) -> None:
    """The new provenance stands in the folder: what it does not tell of must be gone by then."""
    run(streets)

    def die(frame: Frame) -> None:
        raise KeyboardInterrupt

    output = Folder(streets, "pseudo_test", ".png")
    step = Step("test", Value(2), die, [output])
    with pytest.raises(KeyboardInterrupt):
        run_step(FrameSource(cityscapes_root=streets), step, FrameRun(overwrite=True))
    assert values(streets) == []
    assert counts(run(streets, 2)) == (3, 0)


def write_codes(root: Path, seed: int, frames: int = 3) -> Folder:
    codes = Folder(root, "codes_cause_tr", ".npy")
    for frame in FrameSource(cityscapes_root=root).frames()[:frames]:
        codes.path(frame).parent.mkdir(parents=True, exist_ok=True)
        np.save(codes.path(frame), np.zeros(seed + 1))
    write_provenance(codes.directory, script="codes", arguments={"seed": seed})
    return codes


def test_account__changed_inputs_are_noticed(streets: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Codes made anew gave "0 done, 3 skipped"."""
    codes = write_codes(streets, seed=0)
    assert counts(run(streets, inputs=[codes])) == (3, 0)
    assert counts(run(streets, inputs=[codes])) == (0, 3)
    write_codes(streets, seed=1)
    caplog.set_level(logging.INFO)
    assert counts(run(streets, inputs=[codes])) == (3, 0)
    assert "3 files are older than those of codes_cause_tr: made again" in caplog.messages


def test_account__a_part_of_the_inputs_made_anew_by_the_same_recipe(streets: Path) -> None:
    codes = write_codes(streets, seed=0)
    run(streets, inputs=[codes])
    write_codes(streets, seed=0, frames=1)
    assert counts(run(streets, inputs=[codes])) == (1, 2)


def test_account__other_inputs_of_an_old_date_are_refused(streets: Path) -> None:
    """A copy brings them in, with the dates of their making."""
    codes = write_codes(streets, seed=0)
    run(streets, inputs=[codes])
    write_codes(streets, seed=1)
    for path in codes.directory.rglob("*.npy"):
        os.utime(path, (0, 0))
    with pytest.raises(
        UserError, match=r"other inputs \(codes_cause_tr was made anew since\); add `overwrite`"
    ):
        run(streets, inputs=[codes])
    assert counts(run(streets, inputs=[codes], how=FrameRun(overwrite=True))) == (3, 0)


def test_account__shards_of_one_run_may_all_follow_changed_inputs(streets: Path) -> None:
    codes = write_codes(streets, seed=0)
    run(streets, inputs=[codes])
    write_codes(streets, seed=1)
    for shard in (0, 1):
        run(streets, 2, how=FrameRun(num_shards=2, shard=shard), inputs=[codes])
    assert values(streets) == [2, 2, 2]


def test_account__other_weights_and_fits_are_refused(streets: Path) -> None:
    run(streets, weights=[{"name": "net", "sha256": {"net.pth": "a"}}], fits={"clusters": "a"})
    for more, message in (
        ({"weights": [{"name": "net", "sha256": {"net.pth": "b"}}]}, r"other weights \(net.pth changed"),
        ({"weights": [{"name": "x", "sha256": {"x.safetensors": "b"}}]}, r"weights \(x.safetensors changed"),
        ({"fits": {"clusters": "b"}}, r"other fits \(clusters changed"),
    ):
        with pytest.raises(UserError, match=message):
            run(streets, **more)


def test_account__images_of_another_folder_with_the_same_names(streets: Path, tmp_path: Path) -> None:
    """Two videos number their frames alike."""
    target, videos = tmp_path / "labels", [tmp_path / "one", tmp_path / "two"]
    for size, video in enumerate(videos):
        write_png(
            video / "000001.png", np.random.default_rng(0).integers(0, 9, (8, 8 + size), dtype=np.uint8)
        )
    assert counts(run(target, image_dir=videos[0])) == (1, 0)
    assert counts(run(target, image_dir=videos[0])) == (0, 1)
    with pytest.raises(UserError, match=r"1 image had another size .*two/000001.png\); add `overwrite`"):
        run(target, image_dir=videos[1])
    assert counts(run(target, image_dir=videos[1], how=FrameRun(output_root=target, overwrite=True))) == (
        1,
        0,
    )
    assert counts(run(target, image_dir=videos[1])) == (0, 1)


def test_account__the_sizes_of_all_images_are_kept(streets: Path) -> None:
    run(streets, how=FrameRun(num_shards=2, shard=0))
    run(streets, split="val")
    sizes = json.loads((streets / "pseudo_test" / IMAGES).read_text())
    image = streets / "leftImg8bit" / "train" / "aaa" / "train_000000_000000_leftImg8bit.png"
    assert len(sizes) == 4 and sizes["train/aaa/train_000000_000000"] == image.stat().st_size


def provenance(root: Path) -> dict[str, Any]:
    content = read_provenance(root / "pseudo_test")
    assert content is not None
    return content


def test_account__names_the_frames_of_all_shards(streets: Path) -> None:
    run(streets, how=FrameRun(num_shards=2, shard=0))
    one = provenance(streets)
    run(streets, how=FrameRun(num_shards=2, shard=1))
    assert one["frames"] == provenance(streets)["frames"] and one["frames"]["count"] == 3
    run(streets, split="val")
    assert provenance(streets)["frames"]["count"] == 2
    assert provenance(streets)["fingerprint"] == one["fingerprint"]  # a file depends on its own image only


def test_account__a_folder_of_version_0_2_0_keeps_its_identity(streets: Path) -> None:
    """Its files stay, so what was made of them is not made anew either."""
    run(streets)
    old = {name: v for name, v in provenance(streets).items() if name not in ("fingerprint", "frames")}
    write_json(streets / "pseudo_test" / "provenance.json", old)
    (streets / "pseudo_test" / IMAGES).unlink()
    after = Folder(streets, "pseudo_after", ".png")

    def follow() -> Summary:
        step = Step(
            "after",
            Value(),
            partial(write_value, after, 1),
            [after],
            inputs=[Folder(streets, "pseudo_test", ".png")],
        )
        return run_step(FrameSource(cityscapes_root=streets), step, FrameRun())

    assert counts(follow()) == (3, 0)
    assert counts(run(streets)) == (0, 3)
    assert "fingerprint" in provenance(streets)
    assert counts(follow()) == (0, 3)
    with pytest.raises(UserError, match="`value` 1"):
        run(streets, 2)


def test_account__ground_truth_of_another_split_is_not_forgotten(streets: Path) -> None:
    run(streets, uses_ground_truth=True)
    run(streets, split="val", how=FrameRun(overwrite=True))
    assert provenance(streets)["uses_ground_truth"] is True


def training(root: Path, max_images: int | None = None, **more: Any) -> dict[str, Any]:
    source = FrameSource(cityscapes_root=root, max_images=max_images)
    return training_provenance(source, Value(), root, script="train_test", **more)


def test_continued_training__other_images_are_refused(streets: Path) -> None:
    few = training(streets, 1)
    assert continued_training(streets / "net", few, training(streets, 1), {"value": 1}) == few
    message = "net: was trained on 1 image, this run has 3; add `overwrite`, or give another `checkpoint_dir`"
    with pytest.raises(UserError, match=message):
        continued_training(streets / "net", few, training(streets), {"value": 1})


def test_continued_training__images_of_the_same_names_are_told_apart(streets: Path) -> None:
    """Two videos number their frames alike."""
    earlier = training(streets)
    image = FrameSource(cityscapes_root=streets).frames()[0].image
    write_png(image, np.zeros((8, 16, 3), np.uint8))
    with pytest.raises(UserError, match="net: was trained on 3 images, this run has others; add `overwrite`"):
        continued_training(streets / "net", earlier, training(streets), {"value": 1})


def test_continued_training__of_version_0_2_0_compares_the_arguments(streets: Path) -> None:
    few = {name: v for name, v in training(streets, 1).items() if name not in ("frames", "fingerprint")}
    assert (
        continued_training(streets / "net", few, training(streets, 1), {"value": 1})["frames"]["count"] == 1
    )
    with pytest.raises(UserError, match="was trained with `max_images` 1; add `overwrite`"):
        continued_training(streets / "net", few, training(streets), {"value": 1})


def test_continued_training__other_inputs_are_refused(streets: Path) -> None:
    codes = write_codes(streets, seed=0).directory
    earlier = training(streets, inputs=[codes])
    write_codes(streets, seed=1)
    with pytest.raises(
        UserError, match=r"inputs \(codes_cause_tr was made anew since\); .* `checkpoint_dir`"
    ):
        continued_training(streets / "net", earlier, training(streets, inputs=[codes]), {"value": 1})
