"""Where a training step spends its time: operators by their own time, and how busy a GPU is meanwhile."""

from __future__ import annotations

from typing import Any

from torch.profiler import ProfilerActivity, profile

from studies.benchmarks.train_step import Batch, Step, seconds

SHOWN = 12
"""Operators of a profile that are kept."""


def profile_row(step: Step, batch: Batch, device: str) -> dict[str, Any]:
    """Profile one call of a step that is warm.

    Returns:
        `seconds` of the call without the profiler; `busy`, the share of them in which a GPU computes (None on
        a CPU); and `operators`: own milliseconds of the most expensive ones, on the GPU if there is one.
    """
    plain = seconds(step, batch, device)
    gpu = device != "cpu"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as profiler:
        seconds(step, batch, device)
    own = {
        event.key: float(event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e3
        for event in profiler.key_averages()
        if not gpu or event.device_type.name == "CPU"  # which start the kernels, and have their time
    }
    largest = sorted(own.items(), key=lambda item: -item[1])[:SHOWN]
    busy = sum(own.values()) / 1e3 / plain if gpu else None
    return {"seconds": plain, "busy": busy, "operators": dict(largest)}
