"""Training of the CAUSE heads, tiny but for real, and without labels."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from cups.backbones import DinoV3
from cups.errors import Stopped, UserError
from cups.io.checkpoint import write_file
from cups.io.files import write_json
from cups.io.png import read_ids
from cups.io.provenance import read_provenance
from pseudo_labels import generate_semantic_pseudolabels_cause as semantics
from pseudo_labels import train_cause
from pseudo_labels.networks.cause_training import PHASES, Trainer
from pseudo_labels.networks.phase_progress import newest_whole
from pseudo_labels.settings.cause import CauseTraining
from tests.pseudo_labels.textures import SMALL, first, flags


def test_train_cause__writes_the_published_layout(textures: Path) -> None:
    folder = textures / "cause_texton"
    heads = torch.load(folder / "segment_tr.pth", weights_only=True)
    assert heads["head.query_pos"].shape == (64, 39)
    clusters = torch.load(folder / "cluster_tr.pth", weights_only=True)
    np.testing.assert_array_equal(np.load(folder / "modular.npy"), clusters["codebook"])
    assert (read_provenance(folder) or {})["uses_ground_truth"] is False


def test_train_cause__resumes_to_the_same_weights(textures: Path, tmp_path: Path) -> None:
    """A run killed after phase 1 and continued equals one that ran through."""
    folder = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", folder)
    for name in ("after_head.pth", "after_probe.pth", "segment_tr.pth", "cluster_tr.pth", "provenance.json"):
        (folder / name).unlink()
    train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder))
    _assert_same_heads(folder, textures)


@pytest.mark.parametrize("left", [("after_probe.pth",), ("after_head.pth", "after_probe.pth")])
def test_train_cause__the_probe_sees_the_same_codes_after_a_kill(
    textures: Path, tmp_path: Path, left: tuple[str, ...]
) -> None:
    """Heads that were loaded for the last phase had their dropout on: the probe became another one."""
    folder = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", folder)
    for name in (*left, "segment_tr.pth", "cluster_tr.pth", "provenance.json"):
        (folder / name).unlink()
    train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder))
    _assert_same_heads(folder, textures)


def test_train_cause__a_damaged_state_is_named_and_the_one_before_it_used(
    textures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", folder)
    for name in ("segment_tr.pth", "cluster_tr.pth", "provenance.json"):
        (folder / name).unlink()
    for phase in ("head", "probe"):
        os.truncate(folder / f"after_{phase}.pth", 5000)
    more = flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder)
    train_cause.main(more)
    _assert_same_heads(folder, textures)
    told = [text for text in caplog.messages if "the training goes on from" in text]
    assert len(told) == 1 and "after_probe.pth" in told[0] and told[0].endswith("after_codebook.pth")
    for phase in PHASES:
        os.truncate(folder / f"after_{phase}.pth", 0)
    with pytest.raises(UserError, match=r"after_probe\.pth.*no other save is whole.*`overwrite`"):
        train_cause.main(more)


def test_newest_whole__the_save_before_a_damaged_one(tmp_path: Path) -> None:
    paths = [tmp_path / "training.pth", tmp_path / "training_previous.pth"]
    assert newest_whole(paths) is None
    write_file(paths[1], {"step": 3})
    assert newest_whole(paths) == (paths[1], {"step": 3})
    paths[0].write_bytes(b"half")
    assert newest_whole(paths) == (paths[1], {"step": 3})


def _assert_same_heads(folder: Path, textures: Path) -> None:
    for name in ("segment_tr.pth", "cluster_tr.pth"):
        pair = [torch.load(path / name, weights_only=True) for path in (folder, textures / "cause_texton")]
        assert all(torch.equal(pair[1][key], value) for key, value in pair[0].items()), name


def _signal_at(monkeypatch: pytest.MonkeyPatch, number: int, step: int) -> None:
    """Send a signal to this process while a step, counted from now over all phases, is under way."""
    tokens, calls = Trainer._tokens, iter(range(100))

    def told(self: Trainer, generator: torch.Generator) -> torch.Tensor:
        if next(calls) == step:
            os.kill(os.getpid(), number)
        return tokens(self, generator)

    monkeypatch.setattr(Trainer, "_tokens", told)


@pytest.mark.parametrize("phase", PHASES)
def test_train_cause__stopped_within_a_phase_goes_on_at_that_step(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """It was saved at the end of a phase only: of hours, nothing was left."""
    begun = PHASES.index(phase)
    more = flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", tmp_path / "heads")
    with monkeypatch.context() as patch:
        _signal_at(patch, signal.SIGTERM, 8 * begun + 2)
        with pytest.raises(Stopped, match=rf"^stopped at step 3 of phase {phase}; ") as stopped:
            train_cause.main(more)
    assert stopped.value.code == 143
    train_cause.main([*more, "--save_minutes", "0"])
    _assert_same_heads(tmp_path / "heads", textures)
    assert not (tmp_path / "heads" / "training.pth").exists()


def test_train_cause__killed_by_signal_9_goes_on_where_the_clock_saved(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "heads"
    more = flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder, "--save_minutes", 0)
    with monkeypatch.context() as patch:
        _signal_at(patch, signal.SIGKILL, 12)
        process = multiprocessing.get_context("fork").Process(target=train_cause.main, args=(more,))
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    held = torch.load(folder / "training.pth", weights_only=True)
    assert (held["phase"], held["step"]) == ("head", 4)
    train_cause.main(more)
    _assert_same_heads(folder, textures)


def test_train_cause__other_settings_are_refused(textures: Path) -> None:
    with pytest.raises(UserError, match="`seed` 0"):
        train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--seed", 5))


def test_cause__on_dinov3_with_its_own_token_count(textures: Path, tmp_path: Path) -> None:
    """Windows of 48 pixels are 3 x 3 tokens of 16; the heads take these, training and inference agree."""
    torch.manual_seed(0)
    torch.save(DinoV3("vits16", None).network.state_dict(), tmp_path / "vits16.pth")
    common = ["--cityscapes_root", textures, "--output_root", tmp_path]
    common += ["--backbone", "dinov3_vits16", "--backbone_checkpoint", tmp_path / "vits16.pth"]
    flags = [str(flag) for flag in common]
    steps = ["--codebook_steps", "2", "--head_steps", "2", "--probe_steps", "2", "--batch_size", "2"]
    sizes = ["--codebook_size", "8", "--reduced_dim", "6", "--projection_dim", "8", "--hidden_dim", "8"]
    train_cause.main([*flags, *steps, *sizes, "--height", "48", "--window", "48", "--stride", "24"])
    heads = tmp_path / "cause_dinov3_vits16"
    assert torch.load(heads / "segment_tr.pth", weights_only=True)["head.query_pos"].shape == (9, 384)
    assert (read_provenance(heads) or {})["weights"][0]["sha256"].keys() == {"vits16.pth"}
    semantics.main([*flags, "--max_images", "2", "--batch_size", "2"])
    codes = np.load(first(tmp_path, "codes_cause_tr", ".npy"))
    assert codes.shape == (3, 6, 6) and np.isfinite(codes).all()
    assert read_ids(first(tmp_path, "pseudo_semantic_cause27")).shape == (48, 96)
    inputs = (read_provenance(tmp_path / "codes_cause_tr") or {})["inputs"]
    assert str(heads) in [entry["path"] for entry in inputs]


@pytest.mark.parametrize("flag", [("--show", "3"), ("--num_shards", "2")])
def test_main__flags_that_it_would_not_read(textures: Path, flag: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        train_cause.main(flags(textures, "--backbone", "texton", *SMALL, *flag))


def test_train_cause__published_heads_are_not_overwritten(textures: Path, tmp_path: Path) -> None:
    (tmp_path / "segment_tr.pth").write_bytes(b"published")
    with pytest.raises(UserError, match="heads not trained here; give another `checkpoint_dir`"):
        train_cause.main(flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", tmp_path))
    assert (tmp_path / "segment_tr.pth").read_bytes() == b"published"


@pytest.mark.parametrize(("name", "value"), [("batch_size", 0), ("num_classes", -1), ("hidden_dim", 0)])
def test_main__impossible_sizes(textures: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"`{name}` {value}: must be at least 1"):
        train_cause.main(flags(textures, "--backbone", "texton", f"--{name}", value))


def test_train_cause__heads_of_a_trial_are_not_taken_for_all(textures: Path, tmp_path: Path) -> None:
    more = ("--backbone", "texton", *SMALL, "--checkpoint_dir", tmp_path / "heads")
    train_cause.main(flags(textures, *more, "--max_images", 1))
    with pytest.raises(UserError, match="was trained on 1 image, this run has 4; add `overwrite`"):
        train_cause.main(flags(textures, *more))


def test_train_cause__a_killed_overwrite_leaves_no_phase_of_the_old_run(
    textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "heads"
    shutil.copytree(textures / "cause_texton", folder)
    more = flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder, "--overwrite")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", die)
    with pytest.raises(KeyboardInterrupt):
        train_cause.main(more)
    assert not list(folder.glob("*.pth"))


def test_steps__published_epochs_of_five_crops_and_a_floor() -> None:
    """CAUSE cuts each of the 2975 images into five: 930 batches of 16 an epoch."""
    settings = CauseTraining()
    assert [settings.steps(phase, 2975) for phase in PHASES] == [930, 1860, 4650]
    assert [settings.steps(phase, 4) for phase in PHASES] == [150, 200, 150]
    assert CauseTraining(head_steps=7).steps("head", 2975) == 7
    assert CauseTraining(crops=1).steps("codebook", 3200) == 200


def earlier_run(textures: Path, folder: Path) -> list[str]:
    """Copy heads as the version before left them, and return the command that made them."""
    shutil.copytree(textures / "cause_texton", folder)
    content = read_provenance(folder) or {}
    del content["arguments"]["crops"]
    write_json(folder / "provenance.json", content)
    return flags(textures, "--backbone", "texton", *SMALL, "--checkpoint_dir", folder)


def test_train_cause__heads_of_an_earlier_version_stay(textures: Path, tmp_path: Path) -> None:
    command = earlier_run(textures, tmp_path / "heads")
    # What names a path is compared too.
    content = read_provenance(tmp_path / "heads") or {}
    content["arguments"]["checkpoint_dir"] = str(tmp_path / "heads")
    write_json(tmp_path / "heads" / "provenance.json", content)
    before = {path.name: path.read_bytes() for path in (tmp_path / "heads").iterdir()}
    assert train_cause.main(command) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "heads").iterdir()} == before
    (tmp_path / "heads" / "segment_tr.pth").unlink()
    with pytest.raises(UserError, match="that an earlier version began, with another loss; add `overwrite`"):
        train_cause.main(command)
