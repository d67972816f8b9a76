"""Tensors that are not in their file in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cups.errors import UserError
from cups.io.backed import require_backed

PATH = Path("a.pth")


def test_require_backed__takes_what_trainings_write() -> None:
    tied, whole = torch.zeros(64, 64), torch.zeros(100)
    recursive: dict[str, Any] = {"tied": [tied, tied.t(), tied], "parts": (whole[:50], whole[50:])}
    recursive["itself"] = recursive
    require_backed({**recursive, "none": torch.zeros(0), "one": torch.tensor(1)}, PATH)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**9),
        torch.zeros(1, 4).expand(10**6, 4),
        torch.zeros(10**9, device="meta"),
        torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (10**9,)),
        [torch.zeros(1000)] * 10_000,
    ],
)
def test_require_backed__refuses_what_is_not_there(tensor: Any) -> None:
    with pytest.raises(UserError, match=r"^a\.pth: "):
        require_backed({"state_dict": {"a": tensor}}, PATH)
