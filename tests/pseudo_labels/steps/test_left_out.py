"""Images that one step could not read are left out by the next ones, by name."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import read_ids, read_image, write_png
from pseudo_labels.steps.flags import Settings
from pseudo_labels.steps.frames import Folder, Frame, FrameSource
from pseudo_labels.steps.left_out import readable
from pseudo_labels.steps.options import FrameRun, RunOptions, parse_step
from pseudo_labels.steps.step import Step, Summary, run_step


def _first(output: Folder, frame: Frame) -> None:
    write_png(output.path(frame), read_image(frame.image)[..., 0].copy())


def _second(given: Folder, output: Folder, frame: Frame) -> None:
    write_png(output.path(frame), read_ids(given.path(frame)))


@dataclass(frozen=True)
class Nothing(Settings):
    """Nothing to set."""


class Chain:
    """Two steps over a folder of four photos, of which one is cut short."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in "abcd":
            write_png(root / "photos" / f"{name}.png", np.full((8, 16, 3), ord(name), np.uint8))
        self.bad = root / "photos" / "b.png"
        self.whole = self.bad.read_bytes()
        self.bad.write_bytes(self.whole[:-20])
        self.one, self.two = (Folder(root / "out", name, ".png") for name in ("pseudo_one", "pseudo_two"))

    def source(self, skip_bad: bool) -> tuple[FrameSource, FrameRun]:
        """Return what a script reads from its command line."""
        words = ["--image_dir", str(self.root / "photos"), "--output_root", str(self.root / "out")]
        source, run, _ = parse_step(None, [*words, *(["--skip_bad"] if skip_bad else [])], FrameRun, Nothing)
        return source, run

    def first(self, skip_bad: bool = True) -> Summary:
        """Run the step that reads the images."""
        source, run = self.source(skip_bad)
        return run_step(source, Step("one", Nothing(), partial(_first, self.one), [self.one]), run)

    def second(self, skip_bad: bool = True) -> Summary:
        """Run the step that reads what the first wrote."""
        source, run = self.source(skip_bad)
        self.one.require(run.part(source.frames()), "run the first step")
        process = partial(_second, self.one, self.two)
        step = Step("two", Nothing(), process, [self.two], lambda f: [read_image(f.image)], [self.one])
        return run_step(source, step, replace(run, show=4))


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def test_skip_bad__holds_through_the_chain(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    assert len(chain.first().failures) == 1
    caplog.set_level(logging.INFO)
    summary = chain.second()
    assert (summary.done, summary.failures) == (3, {})
    assert "1 images left out, as before: b (pseudo_one)" in caplog.text
    assert "photos: 3 images, 8x16, 0 files ignored" in caplog.text
    assert (chain.two.directory / "contact_sheet.png").is_file()


def test_skip_bad__without_it_the_message_names_the_fix(chain: Chain) -> None:
    chain.first()
    with pytest.raises(UserError, match=r"b\.png: left out of .*pseudo_one .*truncated.*, or add `skip_bad`"):
        chain.second(skip_bad=False)


def test_skip_bad__a_mended_image_comes_back(chain: Chain) -> None:
    chain.first()
    chain.second()
    chain.bad.write_bytes(chain.whole)
    assert (chain.first().done, chain.second().done) == (1, 1)
    assert not (chain.one.directory / "failures.json").exists()


def test_skip_bad__a_step_tries_what_it_failed_on_itself_again(chain: Chain) -> None:
    assert [len(chain.first().failures) for _ in range(2)] == [1, 1]


def test_readable__a_training_notes_what_it_cannot_read(chain: Chain) -> None:
    source = FrameSource(image_dir=chain.root / "photos")
    run = RunOptions(output_root=chain.root / "out", skip_bad=True)
    assert [frame.name for frame in readable(source, run).frames()] == ["a", "c", "d"]
    notes = json.loads((chain.root / "out" / "left_out" / "failures.json").read_text())
    assert list(notes) == ["b"] and "truncated PNG" in notes["b"]
    assert readable(source, replace(run, skip_bad=False)) is source
    assert [frame.name for frame in chain.source(skip_bad=True)[0].frames()] == ["a", "c", "d"], (
        "later steps know"
    )
    for name in "acd":
        (chain.root / "photos" / f"{name}.png").write_bytes(b"gone")
    with pytest.raises(UserError, match=r"no image can be read; see .*failures\.json"):
        readable(source, run)
