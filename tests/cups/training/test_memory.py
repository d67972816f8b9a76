"""Memory that a training process keeps."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from cups.training.memory import freed_memory_kept

FAULTS = """
import resource, sys
from contextlib import nullcontext
import torch
from cups.training.memory import freed_memory_kept

def step():
    tensors = [torch.ones(2**20 * size) for size in (8, 5, 3, 8, 2)]

def faults():
    for _ in range(8):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

start = resident()
usual = faults()
with freed_memory_kept() as told:
    kept, held = faults(), resident()
print(int(told), usual, kept, (held - start) // 2**20, (resident() - start) // 2**20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_kept__tensors_come_from_that_of_those_before_until_the_end() -> None:
    """Page faults of two steps that hold tensors of 8 to 32 MB, after eight such steps, and MB held."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    told, usual, kept, held, after = map(int, done.stdout.split())
    assert told and kept < 0.5 * usual
    assert held > 80 and after < 0.5 * held


def test_freed_memory_kept__elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with freed_memory_kept() as told:
        assert not told
