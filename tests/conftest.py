"""Shared fixtures."""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

from cups import config
from cups.data.cityscapes import CityscapesPanopticValidation
from cups.data.toy_streets import write_dataset
from cups.evaluation.comparison import rows_of
from cups.evaluation.results import read_results
from cups.io.locking import exclusive
from cups.metrics.bootstrap import METRICS, paired_differences
from cups.ops.panoptic_map import PanopticMap
from cups.structures import PseudoClasses

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT / "tests" / "parity"
# Entry points at the root, and scripts, are imported by name, as when Python runs one of them.
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT), str(PARITY)]

# What a user has set would stand for flags that tests leave out.
for variable in ("CITYSCAPES_ROOT", "STAGE1_FLAGS", "CUPS_OPTS"):
    os.environ.pop(variable, None)

# A shell ignores Ctrl-C for what it starts in the background, and children would inherit that.
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every run, and no limit on the time of one: a loaded machine is not a bug.
settings.register_profile("deterministic", deadline=None, derandomize=True)
settings.load_profile("deterministic")


LONGEST_FIRST = (
    *("test_own_data.py", "test_end_to_end.py", "test_slurm.py", "test_seed_commands.py", "test_runs.py"),
    *("test_run_stage1.py", "test_on_toy_streets.py", "test_package.py"),
)
"""Files of minutes: started last, one worker would run them while the other waits."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the rest stays in its order."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Two worker processes on two cores: more threads each would only fight."""
    torch.set_num_threads(1)


@pytest.fixture
def foreign_writer() -> Iterator[Callable[[Path], None]]:
    """Return a function that locks the file of a folder's writer as process 1 of this machine would."""
    with ExitStack() as held:

        def lock(place: Path) -> None:
            place.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(place.open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
            note = {"host": socket.gethostname(), "pid": 1, "since": "2026-01-01 00:00:00", "share": None}
            file.write(json.dumps(note) + "\n")
            file.flush()

        yield lock


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of the parity fixtures; its module `fill` makes their weights."""
    return PARITY


class NoisyOracle(nn.Module):
    """Stands in for a trained network on some frames: their ground truth (19 classes) with mistakes.

    12 stuff pseudo-classes, because class 2 is split at the middle of the image, and 9 of things, because
    every third object goes to the next class; rows of pixels are void.
    """

    PSEUDO = PseudoClasses(things=9, stuffs=12)

    def __init__(self, dataset: CityscapesPanopticValidation) -> None:
        super().__init__()
        self.targets = {float(dataset[i].image.sum()): dataset[i].ground_truth() for i in range(len(dataset))}
        self.frames_seen = 0

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.frames_seen += len(batch)
        return [self._output(self.targets[float(item["image"].sum())]) for item in batch]

    def _output(self, target: PanopticMap) -> dict[str, Any]:
        classes, instance = torch.from_numpy(target.pairs).unbind(-1)
        height, width = classes.shape
        category = torch.where(classes >= 11, classes + 1 + (instance % 3 == 0).long(), classes)
        category[(classes == 2) & (torch.arange(width) >= width // 2)] = 11
        category[(classes == 255) | (classes >= 11) & (instance == 0)] = 255
        channels = torch.where(category < self.PSEUDO.stuffs, category + 1, 0)
        category[:: height // 4] = 255
        ids, segments = torch.zeros((height, width), dtype=torch.int32), []
        pairs = torch.stack((category, torch.where(category >= self.PSEUDO.stuffs, instance, 0)), dim=-1)
        for kind, number in torch.unique(pairs[category < 255], dim=0).tolist():
            is_thing = kind >= self.PSEUDO.stuffs
            index = kind - self.PSEUDO.stuffs if is_thing else kind + 1
            segments.append({"id": len(segments) + 1, "isthing": is_thing, "category_id": index})
            ids[(pairs == torch.tensor((kind, number))).all(dim=-1)] = len(segments)
        logits = nn.functional.one_hot(channels, self.PSEUDO.stuffs + 1).permute(2, 0, 1).float() * 10
        return {"panoptic_seg": (ids, segments), "sem_seg": logits}


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Return a function that makes a folder for a module's fixtures.

    It goes with the module: what all modules write would fill a disk.
    """
    with ExitStack() as stack:

        def make(name: str) -> Path:
            folder = tmp_path_factory.mktemp(name)
            stack.callback(shutil.rmtree, folder)
            return folder

        yield make


CITIES = {"small": (4, 3, 64, 128), "medium": (6, 3, 96, 192)}
"""Frames of training and validation, and their height and width."""


@pytest.fixture(scope="session")
def write_city(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """Return a function that writes one of `CITIES` into a folder; each is rendered once for all tests."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared

    def write(root: Path, kind: str) -> Path:
        train, val, height, width = CITIES[kind]
        rendered = shared / f"city_{kind}"
        with exclusive(rendered):
            write_dataset(
                rendered,
                train_frames=train,
                val_frames=val,
                height=height,
                width=width,
                workers=1,
                progress=False,
            )
        return Path(shutil.copytree(rendered, root, dirs_exist_ok=True))

    return write


@pytest.fixture(scope="session")
def tiny_city(write_city: Callable[[Path, str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered validation frames of 96 x 192 pixels with ground truth."""
    return write_city(tmp_path_factory.mktemp("city"), "medium")


@pytest.fixture
def oracle(tiny_city: Path) -> NoisyOracle:
    """The stand-in for a network trained on the tiny city."""
    return NoisyOracle(CityscapesPanopticValidation(tiny_city))


@pytest.fixture
def rows_agree() -> Callable[[Path], None]:
    """Return a function that fails unless the rows beside panoptic results, re-counted, give their metrics.

    Call it with the stem of the results.
    """

    def check(stem: Path) -> None:
        rows = rows_of(stem)
        panoptic = [result for result in read_results(Path(f"{stem}.json")) if "pq" in result.metrics]
        assert {result.void_rule for result in panoptic} == {"standard", "upstream"}
        for result in panoptic:
            counted = paired_differences(rows, rows, result.void_rule, draws=2)  # type: ignore[arg-type]
            for name in METRICS:
                told = result.metrics[name]
                assert counted[name].first == pytest.approx(told, abs=1e-12, nan_ok=True), name
            for name, values in result.per_class.items():
                found = counted[f"pq {name}"].first
                assert values["pq"] == pytest.approx(0 if found != found else found, abs=1e-12), name

    return check


class Parsed(Exception):
    """Raised in place of a script's work once its arguments are understood."""


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Sequence[str]], None]:
    """Return a function that fails unless a module's own command line understands the arguments.

    Of trainings and evaluations that includes the configuration, its `KEY VALUE` pairs and all.
    """
    parser = argparse.ArgumentParser
    parse, parse_mixed, build = parser.parse_args, parser.parse_intermixed_args, config.build_config

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any) -> None:
        parse(self, *arguments)
        raise Parsed

    def parse_mixed_and_stop(self: argparse.ArgumentParser, *arguments: Any) -> argparse.Namespace:
        values = parse_mixed(self, *arguments)
        if hasattr(values, "experiment_config_file"):  # it goes on to its configuration
            return values
        build(None, values.pairs)
        raise Parsed

    def build_and_stop(*arguments: Any) -> None:
        build(*arguments)
        raise Parsed

    def start_nothing(*arguments: Any, **options: Any) -> None:
        pytest.fail("it would have started for real")

    def check(module: str, arguments: Sequence[str]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(parser, "parse_args", parse_and_stop)
            patched.setattr(parser, "parse_intermixed_args", parse_mixed_and_stop)
            patched.setattr(subprocess, "Popen", start_nothing)
            patched.setattr(config, "build_config", build_and_stop)
            with pytest.raises(Parsed):
                importlib.import_module(module).main(list(arguments))

    return check
