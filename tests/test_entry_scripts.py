"""Entry scripts: quick help, the resolved configuration, and no flag that nobody reads."""

from __future__ import annotations

import argparse
import copy
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from yacs.config import CfgNode

from cups import config
from cups.builders import prediction, scoring, trainer
from cups.builders.evaluation import EvaluatedNetwork
from cups.config import Flag, build_config
from cups.config_keys import KEYS
from cups.config_page import SCRIPTS
from cups.configuration.unread import STAGE3_NETWORK
from cups.configuration.unread import unread as unread_keys
from cups.io.checkpoint import load_checkpoint
from cups.training.kept_checkpoints import step_checkpoint
from studies import ground_truth_to_cups

ROOT = Path(__file__).resolve().parents[1]
TOY = str(ROOT / "configs" / "demo_toy.yaml")
HEAVY = ("torch", "scipy", "sklearn", "pytorch_lightning", "detectron2", "matplotlib", "submitit")
HELPED = (
    *((str(ROOT / name),) for name in (*SCRIPTS, "predict.py", "scripts/export.py")),
    ("-m", "cups.data.toy_streets"),
)


@pytest.mark.parametrize("script", HELPED, ids=lambda script: Path(script[-1]).name)
def test_help__imports_nothing_heavy(script: tuple[str, ...]) -> None:
    """It took six seconds: the script imported torch, Lightning and detectron2 to print its flags.

    Modules are looked at, not the clock: that is the same on every machine.
    """
    start = "run_module('cups.data.toy_streets'" if script[0] == "-m" else f"run_path({script[0]!r}"
    code = (
        "import runpy, sys\n"
        "sys.argv = ['script', '--help']\n"
        "try:\n"
        f"    runpy.{start}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        f"    sys.exit(end.code or ' '.join(m for m in {HEAVY!r} if m in sys.modules) or 0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"imported for --help, or failed: {run.stderr[-500:]}"
    assert "usage:" in run.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_print_config__is_the_resolved_yaml_and_exit_zero(
    script: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main = importlib.import_module(Path(script).stem).main
    with pytest.raises(SystemExit) as stopped:
        main(["--print_config", "--experiment_config_file", TOY, "--batch_size", "3"])
    assert stopped.value.code == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    printed = build_config(tmp_path / "printed.yaml")
    batches = (printed.TRAINING.BATCH_SIZE, printed.VALIDATION.BATCH_SIZE)
    assert batches == ((3, 4) if script.startswith("train") else (2, 3))
    assert printed.MODEL.CONFIG == build_config(TOY).MODEL.CONFIG


class Watched(CfgNode):
    """A configuration that notes the keys that are read; one that code overwrites is no longer the user's."""

    def __init__(self, tree: CfgNode, read: set[str], prefix: str = "") -> None:
        super().__init__()
        self.__dict__.update(read=read, prefix=prefix, overwritten=set())
        for key, value in tree.items():
            child = Watched(value, read, f"{prefix}{key}.") if isinstance(value, CfgNode) else value
            dict.__setitem__(self, key, child)

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        state = self.__dict__
        if not isinstance(value, CfgNode) and key not in state["overwritten"]:
            state["read"].add(state["prefix"] + key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.__dict__["overwritten"].add(key)
        super().__setitem__(key, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Watched:
        twin = Watched.__new__(Watched)
        twin.__dict__.update(self.__dict__, overwritten=set(self.__dict__["overwritten"]))
        for key, value in self.items():
            dict.__setitem__(twin, key, copy.deepcopy(value, memo))
        return twin


class Seen(argparse.Namespace):
    """Arguments that note which of them are read."""

    names: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        Seen.names.add(name)
        return super().__getattribute__(name)


def _fit(self: pl.Trainer, module: Any, data: Any, **_: Any) -> None:
    """Take the place of training: ask for the loaders, and leave the network as it is."""
    module.trainer = data.trainer = self
    next(iter(data.train_dataloader().sampler))
    data.val_dataloader()
    written: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(written)
    path = step_checkpoint(Path(self.default_root_dir), self.max_steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(written, path)


@pytest.fixture(scope="module")
def labels(tiny_city: Path, make_folder: Callable[[str], Path]) -> Path:
    """Training labels of the tiny city, in the CUPS format."""
    folder = make_folder("labels")
    ground_truth_to_cups.main(["--cityscapes_root", str(tiny_city), "--output_dir", str(folder)])
    return folder


AT_TIMES = {
    "SYSTEM.WANDB_PROJECT",
    "TRAINING.ADAMW.LEARNING_RATE",
    "TRAINING.SGD.LEARNING_RATE",
    "TRAINING.SGD.WEIGHT_DECAY",
    "TRAINING.VAL_EVERY_N_STEPS",
}
"""Keys that Stage 3 reads, but not with the settings of these tests: of a logger, another optimiser, ..."""
Usage = tuple[list[Flag], set[str], set[str]]


@pytest.fixture
def used(
    monkeypatch: pytest.MonkeyPatch, tiny_city: Path, labels: Path, oracle: Any, tmp_path: Path
) -> Callable[[str], Usage]:
    """Return a function that runs a script, all but the training: flags, keys read, arguments not read."""
    read: set[str] = set()
    table: list[Flag] = []
    parsers: list[argparse.ArgumentParser] = []

    def watched(*arguments: Any) -> CfgNode:
        table[:] = arguments[3]
        tree = Watched(build_config(*arguments), read)
        tree.freeze()
        return tree

    parse = argparse.ArgumentParser.parse_intermixed_args

    def seen(self: argparse.ArgumentParser, argv: Any = None) -> Any:
        arguments = parse(self, argv, Seen())
        parsers.append(self)
        Seen.names.clear()
        return arguments

    monkeypatch.setattr(config, "build_config", watched)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_intermixed_args", seen)
    monkeypatch.setattr(pl.Trainer, "fit", _fit)
    monkeypatch.setattr(trainer, "save_last_step", lambda *_: None)
    monkeypatch.setattr(
        scoring,
        "load_for_evaluation",
        lambda config: EvaluatedNetwork(oracle, oracle.PSEUDO, load_checkpoint(config.MODEL.CHECKPOINT)),
    )

    def start(script: str, *more: object) -> Usage:
        data = ("--data_root", tiny_city, "--experiment_config_file", TOY, "--run_name", Path(script).stem)
        argv = [str(part) for part in (*data, *more, "SYSTEM.NUM_WORKERS", 0, "DATA.VAL_SCALE", 1.0)]
        assert importlib.import_module(Path(script).stem).main(argv) == 0
        flags = {flag.name for flag in table}
        rest = {action.dest for action in parsers[-1]._actions} - {"help"} - flags
        return table, read, rest - Seen.names

    def run(script: str) -> Usage:
        training = ("--log_path", tmp_path, "--disable_wandb", "DATA.CROP_RESOLUTION", "(96, 192)")
        own_labels = (*training, "--pseudo_root", labels)
        if script in ("train.py", "train_hybrid.py"):
            return start(script, *own_labels)
        start("train.py", *own_labels, "--steps", 1)
        checkpoint = ("--checkpoint", step_checkpoint(tmp_path / "train", 1))
        read.clear()
        if script == "train_self.py":
            return start(script, *training, *checkpoint)
        log = ("--log_path", tmp_path) if script == "val.py" else ("--output_dir", tmp_path / "coco")
        return start(script, *checkpoint, *log)

    return run


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags__each_has_a_reader(script: str, used: Callable[[str], Usage]) -> None:
    """val.py took eight flags that it never read, train_self.py two."""
    table, read, unread = used(script)
    assert [flag.name for flag in table if not read & set(flag.keys)] == []
    assert unread == set()
    assert table == [flag for group in SCRIPTS[script] for flag in group], "the documentation knows them"
    name = Path(script).name
    # Those of the network are looked at, to tell that they have no effect.
    assert set(unread_keys(name, read)) <= set(STAGE3_NETWORK), "a key of unread.py is read after all"
    if name == "train_self.py":
        silent = set(KEYS) - read - set(unread_keys(name, KEYS))
        assert silent == AT_TIMES, "list what Stage 3 does not read: giving it would be a silent mistake"


@pytest.mark.parametrize(
    ("script", "dead"),
    [
        (
            "val.py",
            {"TRAINING.BATCH_SIZE", "TRAINING.STEPS", "DATA.ROOT_PSEUDO", "SYSTEM.NUM_GPUS", "SYSTEM.WANDB"},
        ),
        ("train_self.py", {"TRAINING.STEPS", "DATA.ROOT_PSEUDO"}),
    ],
)
def test_flags__the_watch_tells_what_is_not_read(
    script: str, dead: set[str], used: Callable[[str], Usage]
) -> None:
    """Keys of flags that these scripts had and did not read: the test above would fail for each of them."""
    _, read, _ = used(script)
    assert not read & dead


@pytest.mark.parametrize("script", ["val", "cups_inference_val"])
def test_image_dir__objects_of_clips_are_followed_unless_told(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tracked = []
    monkeypatch.setattr(prediction, "predict_folder", lambda *_, tracking, **__: tracked.append(tracking))
    main = importlib.import_module(script).main
    output = ("--output_dir", str(tmp_path))
    for switch in ([], ["--no_tracking"]):
        assert main([*output, "--image_dir", str(tmp_path), *switch]) == 0
    assert tracked == [True, False]
    with pytest.raises(SystemExit) as stopped:
        main([*output, "--no_tracking"])
    assert stopped.value.code == 2 and "--no_tracking: goes with --image_dir" in capsys.readouterr().err
