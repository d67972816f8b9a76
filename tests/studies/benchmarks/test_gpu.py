"""The benchmark for GPUs: without one it says so; every part's code runs on a CPU with tiny images."""

from __future__ import annotations

import json
import runpy
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cups.errors import UserError
from studies.benchmarks import gpu, loss_curve, self_training_step, train_step
from studies.benchmarks.settings import GpuSettings

MAIN = runpy.run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "gpu.py"))["main"]


@pytest.fixture
def settings(tmp_path: Path) -> GpuSettings:
    return GpuSettings(output=tmp_path, device="cpu", batch_sizes=(1,), repeats=1, curve_steps=1)


def test_main__without_a_gpu_says_so(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert MAIN(["--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_rows__batches_and_variants(settings: GpuSettings) -> None:
    wanted = replace(settings, device="cuda", batch_sizes=(1, 4, 16), only=("stage2", "stage3"))
    names = [row.key for row in gpu.rows(wanted)]
    assert len(names) == len(set(names))
    for contender in ("ours", "plain detectron2", "upstream's habits", "ours, float32"):
        for stage in ("stage2", "stage3"):
            assert {f"{stage}: {contender}, batch {size}" for size in (1, 4, 16)} <= set(names)
    assert "stage2: ours, channels last, batch 16" in names
    assert "stage2: ours, compiled trunk, batch 4" in names
    quick = [row.key for row in gpu.rows(replace(wanted, quick=True))]
    assert not [name for name in quick if "batch 16" in name or "compiled" in name]
    plain = [row.key for row in gpu.rows(replace(wanted, no_compile=True))]
    assert plain == [name for name in names if "compiled" not in name]


def test_compare__every_part_runs_and_a_second_run_measures_nothing(
    settings: GpuSettings, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contenders of Stage 2 run in the tests of the training step; ours stands for them here."""
    makers = train_step.makers
    monkeypatch.setattr(train_step, "makers", lambda steps: {"ours": makers(steps)["ours"]})
    monkeypatch.setattr(gpu, "SYNCED", ("ours",))
    monkeypatch.setattr(gpu, "PROFILED", ("ours",))
    chosen = replace(settings, only=("curve", "stage2", "stage3", "syncs", "profile"))
    # Built once: that takes longer than a step.
    network = train_step.our_network(gpu.step_settings(chosen, "stage2", 1))
    for module in (gpu, loss_curve):
        monkeypatch.setattr(module, "our_network", lambda _: deepcopy(network))
    assert gpu.compare(chosen) == 0
    text = capsys.readouterr().out
    content = json.loads((settings.output / "gpu.json").read_text())
    results = {key: row["result"] for key, row in content["rows"].items()}
    assert torch.__version__.startswith(content["machine"]["torch"])
    stages = [result for key, result in results.items() if key.startswith("stage")]
    assert len(stages) == 6 and all(result["images_per_second"] > 0 for result in stages)
    curve = results["curve: Stage 2, 1 steps"]
    assert [len(values) for values in curve["curves"].values()] == [1, 1, 1]
    first = [values[0] for values in curve["curves"].values()]
    assert first[1] == pytest.approx(first[0], rel=0.05) and curve["difference"] > 0
    assert all(result["syncs"] > 0 for key, result in results.items() if key.startswith("syncs"))
    profiled = results["profile: ours, batch 1"]
    assert profiled["busy"] is None and sum(profiled["operators"].values()) / 1e3 > 0
    assert any("convolution" in operator for operator in profiled["operators"])
    assert text.strip() == (settings.output / "gpu.md").read_text().strip()
    assert "| ours, batch 1" in text and "these numbers mean nothing" in text

    def fail(row: gpu.Row) -> dict[str, Any]:
        raise AssertionError(row.key)

    monkeypatch.setattr(gpu, "measured", fail)
    assert gpu.compare(chosen) == 0
    assert capsys.readouterr().out == text
    with pytest.raises(AssertionError, match="curve"):
        gpu.compare(replace(chosen, seed=1))


def test_compare__too_large_and_broken_rows_are_rows(
    settings: GpuSettings, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def large(model: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken(model: Any) -> Any:
        raise RuntimeError("no compiler\nlong story")

    monkeypatch.setattr(gpu, "our_network", lambda _: None)
    monkeypatch.setattr(self_training_step, "makers", lambda _: {"ours": large, "plain": broken})
    chosen = replace(settings, only=("stage3",))
    assert gpu.compare(chosen) == 1
    text = capsys.readouterr().out
    assert "out of memory" in text and "RuntimeError: no compiler" in text and "long story" not in text
    # What failed is tried again, what did not fit is known.
    tried: list[str] = []

    def remember(row: gpu.Row) -> dict[str, Any]:
        tried.append(row.name)
        return {"out_of_memory": True}

    monkeypatch.setattr(gpu, "measured", remember)
    assert gpu.compare(chosen) == 0
    assert tried == ["plain, batch 1"]


def test_settings__impossible_values() -> None:
    for wrong in ({"batch_sizes": (0,)}, {"repeats": 0}, {"only": ("speed",)}):
        with pytest.raises(UserError):
            GpuSettings(**wrong)
