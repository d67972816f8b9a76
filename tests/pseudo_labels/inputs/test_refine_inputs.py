"""Inputs of the refinement networks: sizes."""

from __future__ import annotations

from pseudo_labels.inputs.refine_inputs import working_size


def test_working_size() -> None:
    assert working_size((1024, 2048), 512) == (512, 1024)
    assert working_size((192, 384), 512) == (192, 384)
