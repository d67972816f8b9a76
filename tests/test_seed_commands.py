"""The commands of the project's first README run word for word, in its order, on a tiny city.

Paths of the user's own are replaced, nothing else: steps and sizes are cut by `STAGE1_FLAGS` and `CUPS_OPTS`,
networks by files of the published names that hold small or random ones (`tests/seed/prepare.py`).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
SEED = ROOT / "tests" / "seed"
ORIGINAL = ROOT.parent / "shared" / "reference" / "seed.md"
PARTS = ("cups", "pseudo_labels", "refs", "configs", "train.py", "train_hybrid.py", "train_self.py", "val.py")
INSTALLS = "pip install"
CITYSCAPES = ("/path/to/cityscapes", "/your/cityscapes/path")
CHECKPOINTS = {
    "/path/to/dinosaur.pth": "{data}/dinosaur/dinosaur.pth",
    "/path/to/refine_net.pth": "{data}/refine_net/refine_net.pth",
    "/path/to/checkpoint.ckpt": "{checkout}/experiments/my_run/checkpoints/last.ckpt",
}
STAGE1_FLAGS = (
    "--device cpu --precision fp32 --num_workers 0 --height 64 --width 128 --window 56 --stride 56 "
    "--source disparity --batch_size 2 --steps 2 --save_every 2 --log_every 1 --slot_dim 16 --decoder_dim 16 --decode_tokens 16"
)
CUPS_OPTS = (
    "SYSTEM.ACCELERATOR cpu SYSTEM.NUM_GPUS 1 SYSTEM.NUM_WORKERS 0 TRAINING.STEPS 1 TRAINING.BATCH_SIZE 1 "
    "TRAINING.ACCUMULATE_GRAD_BATCHES 1 TRAINING.PRECISION 32 TRAINING.VAL_EVERY_N_STEPS 1 "
    "DATA.CROP_RESOLUTION '(96, 192)' DATA.SCALE 1.0 DATA.VAL_SCALE 1.0 DATA.MAX_IMAGES 4 "
    "AUGMENTATION.RESOLUTIONS '((96, 192),)' AUGMENTATION.COPY_PASTE False DATA.ONLY_NON_EMPTY_SAMPLES False "
    "SELF_TRAINING.ROUNDS 1 SELF_TRAINING.ROUND_STEPS 1 SELF_TRAINING.VAL_EVERY_N_STEPS 1 "
    "SELF_TRAINING.SELECT_FRAMES 1 SELF_TRAINING.USE_TTA False SELF_TRAINING.CROP_HEIGHTS '()'"
)
NOT_YET = frozenset({"3.1", "7.0", "7.1", "7.2"})
"""Commands, by block and number, that do not run yet: the sweep of val, whose semantics no command makes."""


class Block(NamedTuple):
    """A shell block: the heading above it, and the words of its commands."""

    heading: str
    commands: list[list[str]]


def read_blocks(text: str) -> list[Block]:
    """Return the shell blocks of a Markdown text in their order."""
    blocks, heading = [], ""
    for match in re.finditer(r"^#+ ([^\n]*)$|^```bash\n(.*?)^```$", text, re.M | re.S):
        if match[2] is None:
            heading = match[1]
        else:
            lines = match[2].replace("\\\n", " ").splitlines()
            words = [shlex.split(line, comments=True) for line in lines]
            blocks.append(Block(heading, [line for line in words if line]))
    return blocks


def blocks() -> list[Block]:
    """Return the blocks that run something, those that install left out."""
    read = read_blocks((SEED / "commands.md").read_text())
    return [block for block in read if not shlex.join(block.commands[0]).startswith(INSTALLS)]


def test_commands__are_the_seeds() -> None:
    """The copy in tests/ says what the original says, where that is at hand."""
    if not ORIGINAL.is_file():
        pytest.skip("the original README is not beside this checkout")
    assert sum(len(block.commands) for block in blocks()) == 21
    original, copy = (read_blocks(file.read_text()) for file in (ORIGINAL, SEED / "commands.md"))
    assert [block.commands for block in copy] == [block.commands for block in original]


def _replaced(word: str, checkout: Path, data: Path) -> str:
    for place in CITYSCAPES:
        word = word.replace(place, str(data))
    return CHECKPOINTS.get(word, word).format(checkout=checkout, data=data)


def test_seed_commands__run_word_for_word(tmp_path: Path) -> None:
    checkout, data = tmp_path / "checkout", tmp_path / "cityscapes"
    checkout.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pth", "*.pkl", "CAUSE", "checkpoints")
    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, checkout / part, **({"ignore": ignored} if source.is_dir() else {}))
    settings = {"CITYSCAPES_ROOT": str(data), "STAGE1_FLAGS": STAGE1_FLAGS, "CUPS_OPTS": CUPS_OPTS}
    environment = {**os.environ, **settings, "PYTHONPATH": str(checkout), "WANDB_MODE": "disabled"}

    def python(*words: object) -> str:
        command = [sys.executable, *map(str, words)]
        run = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        return run.stdout + run.stderr

    said = python(SEED / "prepare.py", checkout, data)
    assert (data / "leftImg8bit").is_dir() and "Traceback" not in said, said[-3000:]
    failed: dict[str, str] = {}
    for index, block in enumerate(blocks()):
        commands = [[_replaced(w, checkout, data) for w in words[1:]] for words in block.commands]
        todo, done = tmp_path / "todo.json", tmp_path / f"done_{index}.json"
        todo.write_text(json.dumps(commands))
        said = python(SEED / "run.py", todo, done)
        (tmp_path / f"log_{index}.txt").write_text(said)
        codes = json.loads(done.read_text()) if done.is_file() else []
        codes += [1] * (len(commands) - len(codes))
        for number, (words, code) in enumerate(zip(block.commands, codes, strict=True)):
            if code:
                failed[f"{index}.{number}"] = f"{shlex.join(words)}: exit code {code}\n{said[-2500:]}"
    assert failed.keys() == NOT_YET, "\n\n".join(failed.values())
