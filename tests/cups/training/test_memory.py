"""Memory that a training process keeps."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from cups.training.memory import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from cups.training.memory import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
def step():
    tensors = [torch.ones(2**20 * size) for size in (8, 5, 3, 8, 2)]
for _ in range(8):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments: str) -> int:
    """Return the page faults of two steps that hold five tensors of 8 to 32 MB, after eight such steps."""
    command = [sys.executable, "-c", FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_keep_freed_memory__tensors_come_from_the_memory_of_those_before() -> None:
    assert faults("keep") < 0.5 * faults()


def test_keep_freed_memory__elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
