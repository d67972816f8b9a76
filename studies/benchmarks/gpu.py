"""All that only a GPU can tell, row by row: each is kept as soon as it is measured."""

from __future__ import annotations

import gc
import logging
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from cups.io.files import read_json, write_json, write_text
from pseudo_labels.steps.flags import settings_of
from studies.benchmarks import gpu_tables, self_training_step, train_step
from studies.benchmarks.host_syncs import sync_row
from studies.benchmarks.loss_curve import curves
from studies.benchmarks.parity import CHECKS, parity_row
from studies.benchmarks.settings import GpuSettings, TrainStepSettings
from studies.benchmarks.step_profile import profile_row
from studies.benchmarks.train_step import Maker, Step, draw_batch, our_network, seconds
from studies.measure import describe_machine, machine_line

log = logging.getLogger(__name__)

SMALL_NETWORK = "Panoptic-Cascade-Mask-R-CNN-Small.yaml"
SIZES = {
    "curve": (192, 384),
    "stage3": (1024, 2048),
    **dict.fromkeys(("stage2", "syncs", "profile"), (640, 1280)),
}
CPU_SIZE = (64, 128)
CPU_NETWORK = (
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "16"),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", "20", "MODEL.RPN.POST_NMS_TOPK_TEST", "8"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8", "MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_BOX_HEAD.CONV_DIM", "32"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "32", "MODEL.SEM_SEG_HEAD.CONVS_DIM", "32"),
)
"""The hidden run on a CPU tries the code; what it measures means nothing."""
QUICK_BATCHES = 4
WARM_UP = 4
SYNCED = ("ours", "ours, pasting own finds", "plain detectron2")
"""Contenders whose waits are counted; upstream's are ours and those of an inference."""
PROFILED = ("ours", "plain detectron2")
PROFILED_BATCH = 4


@dataclass(frozen=True)
class Row:
    """One measurement: its part, its name, and what measures it."""

    part: str
    name: str
    run: Callable[[], dict[str, Any]]

    @property
    def key(self) -> str:
        """Its name in the JSON file."""
        return f"{self.part}: {self.name}"


def step_settings(
    settings: GpuSettings, part: str, batch_size: int, precision: str = "bf16"
) -> TrainStepSettings:
    """Return size, batch and network of a part's steps; a CPU has no fast bfloat16."""
    tried = settings.device == "cpu"
    return TrainStepSettings(
        seed=settings.seed,
        size=CPU_SIZE if tried else SIZES[part],
        batch_size=batch_size,
        device=settings.device,
        precision="fp32" if tried else precision,
        overrides=CPU_NETWORK if tried else (),
        config=SMALL_NETWORK if tried or part == "curve" else TrainStepSettings.config,
        objects=3 if tried else TrainStepSettings.objects,
        channels_last=True,
        compile=not (settings.quick or settings.no_compile or tried),
    )


def speed_row(make: Maker, settings: TrainStepSettings, repeats: int) -> dict[str, Any]:
    """Time a contender's steps; what does not fit into memory is a result too."""
    gpu = settings.device != "cpu"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        step = make(our_network(settings))
        numbers = range(WARM_UP + repeats if gpu else repeats)
        times = [seconds(step, draw_batch(settings, number), settings.device) for number in numbers]
        times = times[-repeats:]
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
    rate = settings.batch_size / statistics.median(times)
    return {"images_per_second": rate, "seconds": times, "peak_gib": peak}


def warm_step(make: Maker, settings: TrainStepSettings, count: int) -> Step:
    """Return the step of a contender after `count` of its steps; on a CPU there is nothing to warm up."""
    step = make(our_network(settings))
    for number in range(count if settings.device != "cpu" else 0):
        step(draw_batch(settings, number))
    return step


def syncs_of(make: Maker, settings: TrainStepSettings) -> dict[str, Any]:
    """Count the waits of a step, after one that warms up."""
    step = warm_step(make, settings, 1)
    batch = draw_batch(settings, 1)
    return sync_row(lambda: step(batch), settings.device)


def batch_sizes(settings: GpuSettings) -> list[int]:
    """Return the batch sizes to measure."""
    return [size for size in settings.batch_sizes if not settings.quick or size <= QUICK_BATCHES]


def speed_rows(settings: GpuSettings, part: str, source: Any) -> Iterator[Row]:
    """Yield the rows of a stage: each contender with each batch size."""
    for size in batch_sizes(settings):
        steps = step_settings(settings, part, size)
        for name, make in source.makers(steps).items():
            yield Row(part, f"{name}, batch {size}", partial(speed_row, make, steps, settings.repeats))
        wide = step_settings(settings, part, size, "fp32")
        make = source.makers(wide)["ours"]
        yield Row(part, f"ours, float32, batch {size}", partial(speed_row, make, wide, settings.repeats))


def sync_rows(settings: GpuSettings) -> Iterator[Row]:
    """Yield the rows that count waits, with two images: most waits come once for each."""
    steps = replace(step_settings(settings, "syncs", 2), channels_last=False, compile=False)
    for title, source in (("Stage 2", train_step), ("Stage 3", self_training_step)):
        for name, make in source.makers(steps).items():
            if name in SYNCED:
                yield Row("syncs", f"{title}, {name}", partial(syncs_of, make, steps))


def profile_of(make: Maker, settings: TrainStepSettings) -> dict[str, Any]:
    """Profile a step of Stage 2, after some that warm up."""
    step = warm_step(make, settings, WARM_UP)
    return profile_row(step, draw_batch(settings, WARM_UP), settings.device)


def profile_rows(settings: GpuSettings) -> Iterator[Row]:
    """Yield the rows that tell where a step's time goes."""
    steps = step_settings(settings, "profile", 1 if settings.device == "cpu" else PROFILED_BATCH)
    for name, make in train_step.makers(steps).items():
        if name in PROFILED:
            yield Row("profile", f"{name}, batch {steps.batch_size}", partial(profile_of, make, steps))


def rows(settings: GpuSettings) -> Iterator[Row]:
    """Yield all rows of the parts chosen."""
    for part in settings.only:
        if part == "parity":
            for name in CHECKS:
                yield Row(part, name, partial(parity_row, name, settings.fixtures, settings.device))
        elif part == "curve":
            count = max(2, settings.curve_steps // 10) if settings.quick else settings.curve_steps
            steps = step_settings(settings, part, 1 if settings.device == "cpu" else 4)
            yield Row(part, f"Stage 2, {count} steps", partial(curves, steps, count))
        elif part == "syncs":
            yield from sync_rows(settings)
        elif part == "profile":
            yield from profile_rows(settings)
        else:
            yield from speed_rows(settings, part, train_step if part == "stage2" else self_training_step)


def measured(row: Row) -> dict[str, Any]:
    """Run a row; what fails becomes a row that says so, and the next run tries it again."""
    try:
        return row.run()
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}
    except Exception as error:  # compilers and drivers raise anything; the other rows are still worth having
        log.exception("%s failed", row.key)
        reason = (str(error).strip() or "no message").splitlines()[0]
        return {"failed": f"{type(error).__name__}: {reason}"}
    finally:
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def stored_rows(settings: GpuSettings) -> dict[str, Any]:
    """Return the rows of an earlier run, by key."""
    path = settings.output / "gpu.json"
    if not path.is_file():
        return {}
    content = read_json(path, "delete it, and all rows are measured again")
    return dict(content.get("rows", {}))


def compare(settings: GpuSettings) -> int:
    """Measure what is missing, write and print all; 1 when a row failed."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        print("No GPU that torch can use: nothing is measured here (this is no error).")
        return 0
    setting = {**settings_of(settings), "machine": machine_line(), "device": settings.device}
    kept = stored_rows(settings)
    shown: dict[str, dict[str, Any]] = {}
    for row in rows(settings):
        before = kept.get(row.key, {})
        if before.get("setting") == setting and not {"failed", "skipped"} & before["result"].keys():
            result = before["result"]
        else:
            log.info("%s", row.key)
            result = measured(row)
            kept[row.key] = {"setting": setting, "result": result}
            write_json(settings.output / "gpu.json", {"machine": describe_machine(), "rows": kept})
        shown.setdefault(row.part, {})[row.name] = result
    text = gpu_tables.report(shown, settings)
    write_text(settings.output / "gpu.md", text + "\n")
    print(text)
    return int(any("failed" in result for part in shown.values() for result in part.values()))
