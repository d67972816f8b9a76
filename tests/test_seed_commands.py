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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.seed.run import ALL_DONE
from tests.warm import warm_python

ROOT = Path(__file__).resolve().parents[1]
SEED = ROOT / "tests" / "seed"
ORIGINAL = ROOT.parent / "shared" / "reference" / "seed.md"
PARTS = ("cups", "pseudo_labels", "refs", "configs", "train.py", "train_hybrid.py", "train_self.py", "val.py")
INSTALLS = "pip install"
PLACES = {"/path/to": "{tmp}", "/your/cityscapes/path": "{tmp}/cityscapes"}
CHECKPOINTS = {
    "dinosaur.pth": "cityscapes/dinosaur/dinosaur.pth",
    "refine_net.pth": "cityscapes/refine_net/refine_net.pth",
    "checkpoint.ckpt": "checkout/experiments/my_run/checkpoints/last.ckpt",
}
"""Links at the places of the README, to where its trainings write."""
NAMED = "spidepth.py", "sweep"
"""Parts of the names of two scripts: depth, and the first that may read labels."""
STAGE1_FLAGS = (
    # Exact depth: in the noise of a random network nothing stands on the street.
    "--source disparity "
    "--device cpu --precision fp32 --num_workers 0 --height 64 --width 128 --window 56 --stride 56 "
    "--batch_size 2 --steps 2 --save_every 2 --log_every 1 --slot_dim 16 --decoder_dim 16 --decode_tokens 16"
)
CUPS_OPTS = (
    "SYSTEM.ACCELERATOR cpu SYSTEM.NUM_GPUS 1 SYSTEM.NUM_WORKERS 0 TRAINING.STEPS 1 TRAINING.BATCH_SIZE 1 "
    "TRAINING.ACCUMULATE_GRAD_BATCHES 1 TRAINING.PRECISION 32 TRAINING.VAL_EVERY_N_STEPS 2 "
    "DATA.CROP_RESOLUTION '(96, 192)' DATA.SCALE 1.0 DATA.VAL_SCALE 1.0 DATA.MAX_IMAGES 4 "
    "AUGMENTATION.RESOLUTIONS '((96, 192),)' AUGMENTATION.COPY_PASTE False DATA.ONLY_NON_EMPTY_SAMPLES False "
    "SELF_TRAINING.ROUNDS 1 SELF_TRAINING.ROUND_STEPS 1 SELF_TRAINING.VAL_EVERY_N_STEPS 2 "
    "SELF_TRAINING.SELECT_FRAMES 1 SELF_TRAINING.USE_TTA False SELF_TRAINING.CROP_HEIGHTS '()' "
    "MODEL.OVERRIDES \"{'MODEL.RPN.POST_NMS_TOPK_TEST': 20, 'MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE': 16, "
    "'MODEL.ROI_BOX_HEAD.FC_DIM': 16, 'MODEL.ROI_MASK_HEAD.CONV_DIM': 16}\""
)


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


class Place(NamedTuple):
    """A copy of the repository and a city, with the links of the README beside them."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "cityscapes"

    def python(self, *words: object) -> str:
        """Run Python in the copy and return what it says; it fails when the command does."""
        checkout = self.folder / "checkout"
        variables = {
            "CITYSCAPES_ROOT": str(self.data),
            "STAGE1_FLAGS": STAGE1_FLAGS,
            "CUPS_OPTS": CUPS_OPTS,
            "PYTHONPATH": str(checkout),
            "WANDB_MODE": "disabled",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }
        ended = subprocess.run(
            [warm_python(), *map(str, words)],
            cwd=checkout,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, f"exit code {ended.returncode}:\n{ended.stdout[-4000:]}"
        return ended.stdout

    def run(self, commands: list[list[str]]) -> None:
        """Run commands of the README, whose own places are replaced."""
        todo = self.folder / "todo.json"
        todo.write_text(json.dumps([[self._replaced(word) for word in words[1:]] for words in commands]))
        said = self.python(SEED / "run.py", todo)
        with (self.folder / "log.txt").open("a") as log:
            log.write(said)
        assert said.endswith(f"{ALL_DONE}\n"), said[-4000:]

    def _replaced(self, word: str) -> str:
        for place, instead in PLACES.items():
            if word.startswith(place):
                return word.replace(place, instead.format(tmp=self.folder), 1)
        return word

    def json(self, path: str) -> Any:
        return json.loads((self.data / path).read_text())


@pytest.fixture
def place(tmp_path: Path, write_city: Callable[[Path, str], Path]) -> Iterator[Place]:
    """Everything goes again but what was said: checkpoints take gigabytes."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pth", "*.pkl", "CAUSE", "checkpoints")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, checkout / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, checkout / part)
    for name, written in CHECKPOINTS.items():
        (tmp_path / name).symlink_to(tmp_path / written)
    made = Place(tmp_path)
    write_city(made.data, "medium")
    made.python(SEED / "prepare.py", checkout, made.data)
    yield made
    for part in ("checkout", "cityscapes", "network"):
        shutil.rmtree(tmp_path / part)


def reads_labels(provenance: dict[str, Any] | None) -> bool:
    """Return whether a step, or one that it builds on, was given gtFine."""
    inputs = provenance["inputs"] if provenance else []
    return any("gtFine" in Path(one["path"]).parts or reads_labels(one["provenance"]) for one in inputs)


def from_weights(provenance: dict[str, Any] | None) -> bool:
    """Return whether published weights that saw labels take part."""
    if provenance is None:
        return False
    told = any(weights["uses_ground_truth"] for weights in provenance["weights"])
    return told or any(from_weights(one["provenance"]) for one in provenance["inputs"])


def test_seed_commands__run_word_for_word(place: Place) -> None:
    labels, aside = place.data / "gtFine", place.folder / "gtFine"
    commands = [words for block in blocks() for words in block.commands]
    depth, sweep = (next(i for i, words in enumerate(commands) if part in words[1]) for part in NAMED)
    # The network of the published names runs too, elsewhere: its depth is noise.
    network = [*commands[depth], "--source", "spidepth", "--output_root", str(place.folder / "network")]
    labels.rename(aside)
    place.run([network, *commands[:sweep]])
    assert_label_free(place)
    aside.rename(labels)
    place.run(commands[sweep:])
    assert_products(place)


def assert_label_free(place: Place) -> None:
    """Nothing up to here was given labels; where they count, published weights had seen them."""
    files = [*place.data.rglob("provenance.json"), *(place.folder / "network").rglob("provenance.json")]
    assert len(files) >= 10
    for file in files:
        provenance = json.loads(file.read_text())
        assert not reads_labels(provenance), file
        assert (provenance["uses_ground_truth"] is True) == from_weights(provenance), file
    for folder in ("features_dinov2_vitb14", "depth_spidepth"):
        assert place.json(f"{folder}/provenance.json")["uses_ground_truth"] is False


def assert_products(place: Place) -> None:
    """Each folder of training labels holds the instances of its own semantics; each grid has its results."""
    for folder, k in (("cups_pseudo_labels", 300), ("cups_pseudo_labels_k50", 50)):
        said = place.json(f"{folder}/format.json")
        assert said["num_pseudo_classes"] == k and said["split"]["things"]
        assert said["semantic_subdir"] == f"pseudo_semantic_raw_k{k}"
        assert said["instance_subdir"] == f"pseudo_instance_depth_guided_raw_k{k}"
        semantics = place.json(f"{said['semantic_subdir']}/provenance.json")
        instances = place.json(f"{said['instance_subdir']}/provenance.json")
        assert semantics["fingerprint"] in {one["fingerprint"] for one in instances["inputs"]}
    rows = [len(json.loads(file.read_text())["rows"]) for file in place.data.glob("sweeps/*/sweep.json")]
    assert sorted(rows) == [2 * 20, 2 * 31, 2 * 36]
