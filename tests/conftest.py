"""Shared fixtures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PARITY = ROOT.parent / "shared" / "parity"


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Two worker processes on two cores: more threads each would only fight."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder of the parity fixtures; tests that need it are skipped on machines without it."""
    if not PARITY.is_dir():
        pytest.skip("parity fixtures are not on this machine")
    if str(PARITY) not in sys.path:
        sys.path.insert(0, str(PARITY))
    return PARITY
