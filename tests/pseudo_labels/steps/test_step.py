"""The runner that all Stage-1 scripts share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import read_image, write_png
from cups.io.provenance import read_provenance, write_provenance
from pseudo_labels import (
    convert_to_cups_format,
    generate_depth_guided_instances,
    generate_panoptic_pseudolabels,
    remap_cause27_to_trainid,
)
from pseudo_labels.steps.flags import Settings, flag
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.options import FrameRun
from pseudo_labels.steps.step import Step, Summary, run_step


@dataclass(frozen=True)
class Shade(Settings):
    """Shade."""

    seed: int = flag(0, "of everything random")
    name: Path | None = flag(None, "recorded, but of no weight", decides=False)


def darken(output: Folder, frame: Frame) -> None:
    write_png(output.path(frame), read_image(frame.image)[..., 0].copy())


def picture(frame: Frame) -> list[np.ndarray]:
    return [read_image(frame.image)]


def run(
    root: Path, how: FrameRun | None = None, settings: Shade | None = None, **more: Any
) -> tuple[Folder, Summary]:
    source, output = FrameSource(cityscapes_root=root), Folder(root, "pseudo_test", ".png")
    step = Step("test", settings or Shade(), partial(darken, output), [output], picture, **more)
    return output, run_step(source, step, how or FrameRun())


def frames_of(root: Path) -> list[Frame]:
    return FrameSource(cityscapes_root=root).frames()


def provenance_of(folder: Folder) -> dict[str, Any]:
    content = read_provenance(folder.directory)
    assert content is not None
    return content


def test_run_step__resumes_and_redoes_what_is_cut_short(cityscapes: Path) -> None:
    output, summary = run(cityscapes)
    assert (summary.done, summary.skipped) == (3, 0)
    path = output.path(frames_of(cityscapes)[0])
    path.write_bytes(path.read_bytes()[:-4])
    _, summary = run(cityscapes)
    assert (summary.done, summary.skipped) == (1, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_run_step__truncated_image_is_named(cityscapes: Path, workers: int) -> None:
    how = FrameRun(num_workers=workers)
    bad = frames_of(cityscapes)[1].image
    bad.write_bytes(bad.read_bytes()[:-10])
    with pytest.raises(UserError, match=bad.name):
        run(cityscapes, how)
    output, summary = run(cityscapes, replace(how, skip_bad=True))
    assert len(summary.failures) == 1
    failures = json.loads((output.directory / "failures.json").read_text())
    assert list(failures) == ["train/aaa/aaa_000002_000000"]


def test_run_step__shards_keep_one_list_of_failures(cityscapes: Path) -> None:
    def shard(number: int, of: int) -> FrameRun:
        return FrameRun(num_shards=of, shard=number, skip_bad=True)

    images = [frame.image for frame in frames_of(cityscapes)]
    whole = [image.read_bytes() for image in images]
    for image in images[:2]:
        image.write_bytes(image.read_bytes()[:-10])
    for number in (1, 0):
        output, _ = run(cityscapes, shard(number, 2))
    failures = output.directory / "failures.json"
    assert list(json.loads(failures.read_text())) == [
        "train/aaa/aaa_000001_000000",
        "train/aaa/aaa_000002_000000",
    ]
    images[1].write_bytes(whole[1])
    run(cityscapes, shard(1, 2))  # mended: its entry goes, the other shard's stays
    assert list(json.loads(failures.read_text())) == ["train/aaa/aaa_000001_000000"]
    images[0].write_bytes(whole[0])
    run(cityscapes, shard(0, 1))
    assert not failures.exists()


def test_run_step__one_overwriting_shard_forgets_nothing_about_the_others(cityscapes: Path) -> None:
    output, _ = run(cityscapes, uses_ground_truth=True)
    run(cityscapes, FrameRun(num_shards=2, shard=0, overwrite=True))
    assert provenance_of(output)["uses_ground_truth"] is True
    run(cityscapes, FrameRun(overwrite=True))
    assert provenance_of(output)["uses_ground_truth"] is False


def test_run_step__other_settings_are_refused(cityscapes: Path) -> None:
    output, _ = run(cityscapes)
    with pytest.raises(UserError, match="`seed` 0"):
        run(cityscapes, settings=Shade(seed=1))
    run(cityscapes, FrameRun(overwrite=True), settings=Shade(seed=1))
    assert provenance_of(output)["arguments"]["seed"] == 1
    run(cityscapes, FrameRun(num_workers=1), settings=Shade(seed=1, name=Path("b")))  # decides nothing


def test_run_step__another_script_is_refused(cityscapes: Path) -> None:
    output, _ = run(cityscapes)
    path = output.directory / "provenance.json"
    path.write_text(json.dumps(provenance_of(output) | {"script": "other"}))
    with pytest.raises(UserError, match="written by other; use another `output_root`"):
        run(cityscapes)


def test_run_step__ground_truth_of_kept_files_is_not_forgotten(cityscapes: Path) -> None:
    output, _ = run(cityscapes, uses_ground_truth=True)
    run(cityscapes, uses_ground_truth=False)
    assert provenance_of(output)["uses_ground_truth"] is True


OLD_ARGUMENTS = {
    "cityscapes_root": "/elsewhere",
    "image_dir": None,
    "split": "train",
    "output_root": None,
    "max_images": None,
    "overwrite": False,
    "skip_bad": False,
    "show": 4,
    "num_workers": 2,
    "device": "auto",
    "seed": 0,
    "gone": "a flag that is no more",
}
"""As versions before 0.2 recorded them: all flags but those of shards."""


def test_run_step__resumes_a_folder_of_an_older_version(cityscapes: Path) -> None:
    output, _ = run(cityscapes)
    path, content = output.directory / "provenance.json", provenance_of(output)
    path.write_text(json.dumps(content | {"arguments": OLD_ARGUMENTS}))
    _, summary = run(cityscapes, labels=LabelKind("clusters", 5))
    assert (summary.done, summary.skipped) == (0, 3)
    assert provenance_of(output)["labels"] == {"kind": "clusters", "num_classes": 5, "void": 255}
    path.write_text(json.dumps(content | {"arguments": OLD_ARGUMENTS | {"seed": 3}}))
    with pytest.raises(UserError, match="`seed` 3; repeat that, or add `overwrite`"):
        run(cityscapes)


def test_run_step__records_the_same_from_one_process_and_from_many(cityscapes: Path) -> None:
    output, _ = run(cityscapes, settings=Shade(name=Path("x")))
    whole = provenance_of(output)
    assert whole["script"] == "test" and "labels" not in whole
    assert whole["arguments"] == {
        "cityscapes_root": str(cityscapes),
        "image_dir": None,
        "split": "train",
        "max_images": None,
        "output_root": str(cityscapes),
        "seed": 0,
        "name": "x",
    }
    run(cityscapes, FrameRun(num_shards=2, shard=1, run_id="a", executor="none"), Shade(name=Path("x")))
    assert provenance_of(output) == whole


def test_run_step__contact_sheet_of_the_first_images(cityscapes: Path) -> None:
    output, _ = run(cityscapes)
    assert not (output.directory / "contact_sheet.png").exists()
    run(cityscapes, FrameRun(show=1))
    one = read_image(output.directory / "contact_sheet.png")
    run(cityscapes, FrameRun(show=9))
    assert read_image(output.directory / "contact_sheet.png").shape[0] > one.shape[0]


NEEDS_SEMANTICS = {
    generate_depth_guided_instances: ("--no_depth", "--min_area", "20"),
    generate_panoptic_pseudolabels: (),
    convert_to_cups_format: ("--trainid_input",),
    remap_cause27_to_trainid: (),
}


@pytest.mark.parametrize("script", NEEDS_SEMANTICS, ids=lambda script: script.__name__)
def test_run_step__a_shard_needs_the_inputs_of_its_own_frames(perfect_root: Any, script: Any) -> None:
    """Shards run the steps one after the other without waiting for each other."""
    missing = perfect_root.file("pseudo_semantic_mapped_k300", f"{perfect_root.stems[1]}.png")
    missing.unlink()
    folder = [*NEEDS_SEMANTICS[script], "--semantic_subdir", "pseudo_semantic_mapped_k300"]
    common = ["--cityscapes_root", str(perfect_root.path), *folder, "--num_shards", "2"]
    if script is remap_cause27_to_trainid:
        labels = LabelKind("cause27", 27).content()
        write_provenance(perfect_root.path / folder[-1], script="test", arguments={}, labels=labels)
    if script is convert_to_cups_format:
        common += ["--output_dir", str(perfect_root.path / "new")]
    assert script.main([*common, "--shard", "0"]) == 0
    with pytest.raises(UserError, match=missing.name):
        script.main([*common, "--shard", "1"])


def test_step__a_folder_is_not_read_and_written_at_once(tiny_root: Any) -> None:
    """`--output_subdir` with the name of the semantics would have written over what it reads."""
    both = Folder(tiny_root.path, "pseudo_test", ".png")
    with pytest.raises(UserError, match="pseudo_test: would be read and written at once; write"):
        run(tiny_root.path, inputs=[both])


def test_run_step__a_run_with_other_settings_writes_there(
    cityscapes: Path, foreign_writer: Callable[[Path], None]
) -> None:
    """Two at once mixed their files, and the provenance told of one."""
    foreign_writer(cityscapes / "pseudo_test" / ".writer")
    with pytest.raises(UserError, match=r"process 1 on .* since 2026-01-01 .*, or use another `output_root`"):
        run(cityscapes)
    assert not list((cityscapes / "pseudo_test").glob("**/*.png"))
