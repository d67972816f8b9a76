"""Whole training runs on a tiny rendered city: 300 pseudo-classes, precisions, two processes, bad batches."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import semantic_run
import torch
from torch.nn.utils import parameters_to_vector

import train
import val
from cups.builders.run_directory import run_directory
from cups.builders.trainer import fit
from cups.errors import Stopped
from tests.warm import warm_python

ROOT = Path(__file__).resolve().parents[2]
SIZE = (64, 128)
STEPS = 4


def _arguments(city: Path, labels: Path, logs: Path, name: str, *more: object) -> list[str]:
    training = ("--disable_wandb", "--pseudo_root", labels, "--batch_size", "2")
    return _evaluation(city, logs, name, *training, *more)


def _evaluation(city: Path, logs: Path, name: str, *more: object) -> list[str]:
    config = ROOT / "configs" / "demo_toy.yaml"
    return [
        *("--experiment_config_file", str(config), "--data_root", str(city)),
        *("--log_path", str(logs), "--run_name", name),
        *("SYSTEM.NUM_WORKERS", "0", "DATA.CROP_RESOLUTION", str(SIZE), "TRAINING.PRECISION", "32"),
        *("TRAINING.VAL_EVERY_N_STEPS", "2", "TRAINING.LOG_EVERY_N_STEPS", "1"),
        *("TRAINING.LOG_MEDIA_N_STEPS", "2", *map(str, more)),
    ]


def _logged(run: Path) -> list[dict[str, str]]:
    with next(run.glob("csv/version_0/metrics.csv")).open() as file:
        return list(csv.DictReader(file))


def _check_speed(rows: list[dict[str, str]]) -> None:
    (row,) = (row for row in rows if row["speed/images_per_second"])
    assert row["step"] == "2"
    assert 0 < float(row["speed/images_per_second"]) < 1000
    assert 0 <= float(row["speed/data_wait"]) < 1
    assert 0.05 < float(row["memory/peak_gb"]) < 100


def test_train_and_val__three_hundred_pseudo_classes(
    city: Path, label: Callable[[int], Path], tmp_path: Path
) -> None:
    """Upstream's and our first label format end at 254 classes: channel 255 was the ignore value."""
    arguments = _arguments(city, label(300), tmp_path, "k300", "TRAINING.CLASS_WEIGHTING", "True")
    assert train.main([*arguments, "--steps", "2", "TRAINING.LOG_EVERY_N_STEPS", "2"]) == 0
    _check_speed(_logged(tmp_path / "k300"))
    last = tmp_path / "k300" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)
    assert len(stored["hyper_parameters"]["stuff_pseudo_classes"]) == 298
    assert all(torch.isfinite(tensor).all() for tensor in stored["state_dict"].values())
    assert (tmp_path / "k300" / "media" / "step_000002.png").is_file()
    evaluation = _evaluation(city, tmp_path, "k300", "--checkpoint", last, "--visualize_results")
    assert val.main([*evaluation, "--output_dir", str(tmp_path / "val")]) == 0
    results = json.loads((tmp_path / "val" / "results.json").read_text())["results"]
    assert len(results[0]["assignment"]) == 300 and set(results[0]["assignment"]) <= {*range(19), 255}
    assert len(list((tmp_path / "val" / "overlays").glob("*.png"))) == 3


def _semantic_run(city: Path, labels: Path, logs: Path, name: str, **settings: object) -> list[str]:
    pairs = {
        "SYSTEM.ACCELERATOR": "cpu",
        "SYSTEM.LOG_PATH": logs,
        "SYSTEM.NUM_WORKERS": 0,
        "SYSTEM.RUN_NAME": name,
        "SYSTEM.WANDB": False,
        "DATA.CROP_RESOLUTION": SIZE,
        "DATA.ROOT": city,
        "DATA.ROOT_PSEUDO": labels,
        "DATA.SCALE": 1.0,
        "TRAINING.GRADIENT_CLIP_VAL": 20.0,
        "TRAINING.LOG_EVERY_N_STEPS": 1,
        "TRAINING.OPTIMIZER": "sgd",
        "TRAINING.PRECISION": "32",
        "TRAINING.SGD.LEARNING_RATE": 2e-4,
        "TRAINING.STEPS": STEPS,
    }
    pairs |= {key.replace("__", "."): value for key, value in settings.items()}
    return [str(part) for pair in pairs.items() for part in pair]


def _weights(run: Path) -> torch.Tensor:
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == STEPS
    return parameters_to_vector(stored["state_dict"].values())


@pytest.fixture(scope="module")
def whole(city: Path, label: Callable[[int], Path], make_folder: Callable[[str], Path]) -> Path:
    """Train the semantic part in one process, in batches of two; return the run's folder."""
    logs = make_folder("semantic")
    assert semantic_run.main(_semantic_run(city, label(20), logs, "whole", TRAINING__BATCH_SIZE=2)) == 0
    return logs / "whole"


def _assert_same_weights(first: Path, second: Path, pairs: list[str]) -> None:
    """The difference is measured by how far training went."""
    _, module, _ = semantic_run.build(pairs)
    start = parameters_to_vector(module.state_dict().values())
    one, two = _weights(first), _weights(second)
    assert (one - start).norm() > 0.01
    assert (one - two).norm() < 1e-5 * (one - start).norm()


def _go_on(pairs: list[str], step: int = -1, number: int = 0) -> None:
    """Go on with a run of the semantic part; send a signal to this process within a step."""
    config, module, data = semantic_run.build(pairs)
    forward = module.model.forward

    def told(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if module.global_step == step:
            os.kill(os.getpid(), number)
        return forward(batch)

    module.model.forward = told  # type: ignore[method-assign]
    folder = run_directory(config)
    fit(module, data, config, folder, resume=(folder / "checkpoints" / "last.ckpt").exists())


def test_fit__stopped_then_killed_ends_with_the_same_weights(
    city: Path, label: Callable[[int], Path], whole: Path, tmp_path: Path
) -> None:
    """At early steps, of which VAL_EVERY_N_STEPS would have saved none."""
    each = {"TRAINING__BATCH_SIZE": 2, "TRAINING__SAVE_EVERY_N_MINUTES": 0.0}
    pairs = _semantic_run(city, label(20), tmp_path, "run", **each)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with pytest.raises(
        Stopped, match=r"^stopped at step 1; .*`resume` and `run_name` run goes on$"
    ) as stopped:
        _go_on([*pairs, "TRAINING.SAVE_EVERY_N_MINUTES", "60"], 0, signal.SIGINT)
    assert stopped.value.code == 130 and torch.load(last, weights_only=True)["global_step"] == 1
    process = multiprocessing.get_context("fork").Process(target=_go_on, args=(pairs, 2, signal.SIGKILL))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert torch.load(last, weights_only=True)["global_step"] == 2 and not last.is_symlink()
    _go_on(pairs)
    assert last.is_symlink() and last.resolve().name == f"ups_checkpoint_step={STEPS:06d}.ckpt"
    _assert_same_weights(whole, tmp_path / "run", pairs)


@pytest.fixture(scope="module")
def two_processes(
    city: Path, label: Callable[[int], Path], make_folder: Callable[[str], Path]
) -> tuple[Path, str]:
    """Make three runs of two processes each; return their folder and what they said at the end."""
    logs, labels = make_folder("two"), label(20)
    settings: dict[str, object] = {"TRAINING__BATCH_SIZE": 1, "SYSTEM__NUM_GPUS": 2}
    runs = (
        _semantic_run(city, labels, logs, "semantic", **settings),
        [*_arguments(city, labels, logs, "train", "SYSTEM.NUM_GPUS", 2), "--batch_size=1", "--steps=2"],
        _semantic_run(city, labels, logs, "broken", **settings),
    )
    command = [warm_python(), semantic_run.__file__, *runs[0], "--", *runs[1], "--", *runs[2]]
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    temporary = logs / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary)}
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment,
    )
    assert run.returncode == 1, run.stderr[-3000:]
    return logs, run.stderr


def test_fit__two_processes_learn_as_one_with_twice_the_batch(
    city: Path, label: Callable[[int], Path], whole: Path, two_processes: tuple[Path, str]
) -> None:
    """Same loss curve and weights: draws are dealt, gradients averaged and then clipped, losses logged."""
    run = two_processes[0] / "semantic"
    one, two = ([float(row["loss"]) for row in _logged(part) if row["loss"]] for part in (whole, run))
    assert len(one) == STEPS and one[-1] < 0.95 * one[0]
    assert one == pytest.approx(two, rel=1e-5)
    _assert_same_weights(whole, run, _semantic_run(city, label(20), run, "again"))


def test_train__two_processes_validate_as_one(
    city: Path, label: Callable[[int], Path], two_processes: tuple[Path, str], tmp_path: Path
) -> None:
    """Three frames on two processes: the sampler repeats one, which must count once."""
    run = two_processes[0] / "train"
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"ups_checkpoint_step=000002.ckpt", "last.ckpt"}
    last = run / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    logged = next(row for row in _logged(run) if row.get("val/miou"))
    arguments = _evaluation(city, tmp_path, "val", "--checkpoint", last, "--output_dir", tmp_path)
    assert val.main(arguments) == 0
    metrics = json.loads((tmp_path / "results.json").read_text())["results"][0]["metrics"]
    assert metrics["accuracy"] > 0
    for name in ("pq", "miou", "accuracy"):
        assert float(logged[f"val/{name}"]) == pytest.approx(metrics[name], abs=1e-6)


def test_fit__a_broken_process_stops_all(two_processes: tuple[Path, str]) -> None:
    """One that raised alone would leave the others waiting for its gradients, on GPUs for half an hour."""
    folder, said = two_processes
    kept = folder / "broken" / "bad_batch_step=000000_rank=1.pt"
    assert said.count(f"error: {kept}: the loss of this batch is not finite") == 1
    assert said.count("error: step 0: the loss of another process is not finite") == 1
    assert isnan(torch.load(kept, weights_only=True)["losses"]["loss_sem_seg"])
    assert said.count("in a group at exit: False") == 2, "Gloo's threads would outlive the interpreter"


def test_train__leaves_no_temporary_files(two_processes: tuple[Path, str]) -> None:
    """Three runs of two processes, one of them broken; torch itself keeps one cache folder for all runs."""
    left = [path.name for path in (two_processes[0] / "temporary").iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []


def test_fit__accumulated_micro_batches_are_one_batch(
    city: Path, label: Callable[[int], Path], whole: Path, tmp_path: Path
) -> None:
    settings = {"TRAINING__BATCH_SIZE": 1, "TRAINING__ACCUMULATE_GRAD_BATCHES": 2}
    pairs = _semantic_run(city, label(20), tmp_path, "parts", **settings)
    assert semantic_run.main(pairs) == 0
    _assert_same_weights(whole, tmp_path / "parts", pairs)


def test_train__the_same_seed_gives_the_same_weights(
    city: Path, label: Callable[[int], Path], tmp_path: Path
) -> None:
    """Copy-paste of own finds, resolution jitter, colours and sampled regions included, in bfloat16."""
    settings = ("AUGMENTATION.RESOLUTIONS", "((64, 128), (96, 192))", "AUGMENTATION.NUM_STEPS_STARTUP", "1")
    settings += ("TRAINING.PRECISION", "bf16")
    for name in ("first", "second"):
        arguments = _arguments(city, label(20), tmp_path, name, *settings)
        assert train.main([*arguments, "--steps", "2"]) == 0
    first, second = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("first", "second")
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
