"""Waits are counted where they are caused."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from studies.benchmarks.host_syncs import ROOT, counted_syncs, sync_row


def test_counted_syncs__on_a_cpu_what_a_gpu_would_be_asked() -> None:
    values = torch.arange(4.0)
    with counted_syncs("cpu") as places:
        total = values.sum() * 2
        assert not places
        float(total)
        bool((values > 1).any())
        chosen = values[values > 1]
        chosen[torch.tensor([0])] = 1.0
        values[values > 1] = 0.0
    assert places.total() == 3
    assert all(place.startswith("tests/studies/benchmarks/test_host_syncs.py:") for place in places)


def test_counted_syncs__on_a_gpu_what_torch_warns_of(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with counted_syncs("cuda") as places:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert modes == ["warn", "default"]
    assert list(places.values()) == [3] and "test_host_syncs" in next(iter(places))


@pytest.mark.parametrize("folder", ["/opt/torch/.venv", "/home/torch/fvcore", str(ROOT / ".venv")])
def test_counted_syncs__what_a_library_does_is_told_by_its_own_name(folder: str) -> None:
    """Waits of detectron2 counted as ours where Python was installed below a folder named torch."""
    code = "def wait(value):\n    return value.item()\n"
    with counted_syncs("cpu") as places:
        for package in ("detectron2", "torchvision"):
            module: dict[str, Any] = {}
            name = f"{folder}/lib/python3.12/site-packages/{package}/modeling/poolers.py"
            exec(compile(code, name, "exec"), module)
            module["wait"](torch.ones(1))
    here = [place for place in places if place.startswith("tests/studies/benchmarks/test_host_syncs.py:")]
    assert places == {"detectron2/modeling/poolers.py:2": 1, here[0]: 1}


def test_sync_row__by_whose_code() -> None:
    row = sync_row(lambda: torch.ones(1).item(), "cpu")
    assert (row["syncs"], row["ours"], row["detectron2"], row["others"]) == (1, 0, 0, 1)
