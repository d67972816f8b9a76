"""Which checkpoint a run goes on from: never from half of one, never afresh over others."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cups.errors import UserError
from cups.io.checkpoint import write_file
from cups.training.kept_checkpoints import (
    NEEDED,
    checkpoint_to_resume,
    damage_of,
    holds_checkpoints,
    last_checkpoint,
    link_last,
    remove_leftovers,
    step_checkpoint,
)
from cups.training.run_folder import WholeFiles, save_by_time


def _write(path: Path, step: int) -> Path:
    content = {key: {} for key in NEEDED} | {"global_step": step, "state_dict": {"w": torch.rand(200)}}
    write_file(path, content)
    return path


def _flip(path: Path) -> None:
    data = bytearray(path.resolve().read_bytes())
    start = data.index(b"data/0")
    data[start + 200] ^= 1  # within the tensor
    path.resolve().write_bytes(data)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of the steps 9, 10 and 100000, of which the last is `last.ckpt`."""
    for step in (100000, 9, 10):
        _write(step_checkpoint(tmp_path, step), step)
    link_last(step_checkpoint(tmp_path, 100000))
    return tmp_path


def test_checkpoint_to_resume__last_where_it_is_whole(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoint_to_resume(run, "") == last_checkpoint(run) and not caplog.messages
    assert checkpoint_to_resume(run / "other", "") is None and not holds_checkpoints(run / "other")


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone", "no link"])
def test_checkpoint_to_resume__else_the_newest_whole_one(
    run: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    last = last_checkpoint(run)
    if how == "flip":
        _flip(last)
    elif how in ("cut", "empty"):
        os.truncate(last, 0 if how == "empty" else last.stat().st_size // 2)
    elif how == "gone":
        last.resolve().unlink()
    else:
        last.unlink()
        os.truncate(step_checkpoint(run, 100000), 99)
    assert holds_checkpoints(run)
    assert checkpoint_to_resume(run, "") == step_checkpoint(run, 10)
    (message,) = caplog.messages
    assert str(last) in message and message.endswith(
        "the run goes on from ups_checkpoint_step=000010.ckpt, at step 10"
    )
    assert last.resolve() == step_checkpoint(run, 10)
    assert checkpoint_to_resume(run, "") == last and len(caplog.messages) == 1


def test_checkpoint_to_resume__none_is_whole(run: Path) -> None:
    write_file(run / "checkpoints" / "best.ckpt", {"state_dict": {}, "global_step": 7})
    for step in (100000, 9, 10):
        _flip(step_checkpoint(run, step))
    assert damage_of(run / "checkpoints" / "best.ckpt") == "holds weights alone"
    with pytest.raises(UserError, match=r"last\.ckpt: damaged \(.*Bad CRC-32.*\), and no other .*; begin"):
        checkpoint_to_resume(run, "begin")


def test_remove_leftovers__of_a_killed_write(run: Path) -> None:
    (run / "checkpoints" / ".last.abc.ckpt").write_bytes(b"half")
    remove_leftovers(run)
    assert len(list((run / "checkpoints").iterdir())) == 4


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another file system than the system's temporary one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev:
        pytest.skip("no second file system here")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


class _Trainer(SimpleNamespace):
    """Saves its step as Lightning's trainer does, through the plugin."""

    is_global_zero = True

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        content = {key: {} for key in NEEDED} | {"global_step": self.global_step}
        WholeFiles().save_checkpoint(content, path)


@pytest.mark.parametrize("keep_all", [True, False])
def test_save_by_time__on_another_disk_no_earlier_checkpoint_changes(elsewhere: Path, keep_all: bool) -> None:
    """The state of step 13 once went through `last.ckpt` into the file of step 10."""
    saver = save_by_time(elsewhere, 60, 10, keep_all)
    saver.save(_Trainer(global_step=10), keep=keep_all)  # type: ignore[arg-type]
    first = step_checkpoint(elsewhere, 10)
    before = first.read_bytes() if keep_all else b""
    for step in (13, 15):
        saver.save(_Trainer(global_step=step), keep=False)  # type: ignore[arg-type]
    last = last_checkpoint(elsewhere)
    assert not last.is_symlink() and torch.load(last, weights_only=True)["global_step"] == 15
    os.truncate(last, 10)
    found = checkpoint_to_resume(elsewhere, "")
    assert found is not None and found.name == "previous.ckpt"
    assert torch.load(found, weights_only=True)["global_step"] == 13
    saver.save(_Trainer(global_step=20), keep=keep_all)  # type: ignore[arg-type]
    assert torch.load(last, weights_only=True)["global_step"] == 20
    names = {path.name for path in last.parent.iterdir()}
    steps = {"ups_checkpoint_step=000010.ckpt", "ups_checkpoint_step=000020.ckpt"}
    assert names == ({"last.ckpt"} | steps if keep_all else {"last.ckpt"})
    assert not keep_all or first.read_bytes() == before
