"""Wall time of the steps of Stage 1 with one worker process and with several."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cups.backbones.texton import Texton
from cups.io.files import write_json, write_npy
from cups.io.markdown import markdown_table
from cups.io.png import write_png
from cups.ops.kmeans import fit_kmeans
from pseudo_labels.algorithms.overclustering import ClusterMap
from pseudo_labels.generators.cups_format import Convert, TrainingLabels
from pseudo_labels.generators.instances import GenerateInstances
from pseudo_labels.generators.overclusters import LabelClusters
from pseudo_labels.networks.cause_codes import TEXTON_TILING, FeatureExtractor
from pseudo_labels.networks.vectors import StoredVectors, WholeImage
from pseudo_labels.settings.groups import Splitting
from pseudo_labels.settings.outlines import STEREO
from pseudo_labels.steps.frames import Folder, Frame
from pseudo_labels.steps.label_kind import LabelKind
from pseudo_labels.steps.workers import run_pool
from studies.benchmarks.settings import SCALED, ScalingSettings
from studies.benchmarks.stage1 import CLASSES, Scene, street
from studies.measure import machine_line

DIFFERENT = 2
"""Streets that are rendered; further frames repeat them."""
AIM = 0.9
"""Of the number of workers: what they gain on a machine with as many cores."""


def write_frames(root: Path, scenes: Sequence[Scene], count: int) -> list[Frame]:
    """Write images, codes, semantics and depth of `count` frames, and return these."""
    frames = []
    for index in range(count):
        scene = scenes[index % len(scenes)]
        frame = Frame(f"frame{index}", Path("train/street"), root / "images" / f"frame{index}.png")
        write_png(frame.image, np.repeat(scene.semantic[..., None] * 10, 3, axis=2))
        write_png(Folder(root, "semantic", ".png").path(frame), scene.semantic)
        write_npy(Folder(root, "depth", ".npy").path(frame), scene.depth)
        write_npy(Folder(root, "codes", ".npy").path(frame), scene.codes.astype(np.float16))
        frames.append(frame)
    return frames


def processes(root: Path, frames: Sequence[Frame], k: int) -> dict[str, Callable[[Frame], Any]]:
    """Return what each step does with a frame; instances are written now, for the conversion."""
    semantics, instances = Folder(root, "semantic", ".png"), Folder(root, "instance", ".png")
    read = StoredVectors(Folder(root, "codes", ".npy"))
    samples = np.concatenate([read(frame).reshape(-1, read(frame).shape[-1]) for frame in frames[:DIFFERENT]])
    clusters = ClusterMap(read, fit_kmeans([samples], k))
    table = np.arange(k, dtype=np.uint8 if k < 256 else np.uint16)
    way = Splitting().for_depth(STEREO, named=True)
    split = GenerateInstances(semantics, Folder(root, "depth", ".npy"), instances, CLASSES.things, way)
    for frame in frames:
        split(frame)
    labels = TrainingLabels(root / "cups", CLASSES.num_classes, CLASSES.things)
    extractor = FeatureExtractor("texton", Texton(), TEXTON_TILING, torch.device("cpu"))
    found: dict[str, Callable[[Frame], Any]] = {
        "overclusters": LabelClusters(
            clusters, table, Folder(root, "clusters", ".png"), LabelKind("clusters", k)
        ),
        "instances": split,
        "conversion": Convert(semantics, instances, labels),
        "textons": WholeImage(extractor),
    }
    assert tuple(found) == SCALED
    return found


def seconds_a_frame(frames: Sequence[Frame], process: Callable[[Frame], Any], workers: int) -> float:
    """Return the wall time of a frame once all workers are busy, as in a long run.

    Raises:
        UserError: a frame could not be worked on.
    """
    first, start = 2 * workers, time.perf_counter()
    for done, (_, error) in enumerate(run_pool(frames, process, workers), 1):
        if error is not None:
            raise error
        if done == first:
            start = time.perf_counter()
    return (time.perf_counter() - start) / (len(frames) - first)


def run(settings: ScalingSettings) -> dict[str, dict[str, float]]:
    """Measure the steps; one worker and several in turn, the best of `repeats` counts."""
    torch.set_num_threads(1)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        scenes = [street(settings.shape, index, settings.seed) for index in range(DIFFERENT)]
        frames = write_frames(Path(folder), scenes, settings.frames)
        for name, process in processes(Path(folder), frames, settings.k).items():
            if name not in settings.only:
                continue
            times: dict[int, list[float]] = {1: [], settings.workers: []}
            for _ in range(settings.repeats):
                for workers, measured in times.items():
                    measured.append(seconds_a_frame(frames, process, workers))
            one, several = (min(measured) for measured in times.values())
            results[name] = {"one": one, "several": several, "scaling": one / several}
    return results


def markdown(results: dict[str, dict[str, float]], settings: ScalingSettings, load: tuple[float, ...]) -> str:
    """Return the table with the setting above; below it the machine and its load before (`getloadavg`)."""
    height, width = settings.shape
    rows = [
        (name, f"{1000 * row['one']:.0f}", f"{1000 * row['several']:.0f}", f"{row['scaling']:.2f}")
        for name, row in results.items()
    ]
    columns = ("step", "one worker, ms a frame", f"{settings.workers} workers, ms a frame", "scaling")
    setting = (
        f"{settings.frames} frames of {height}x{width} pixels, k = {settings.k}, wall time, best of "
        f"{settings.repeats}; aim: {AIM * settings.workers:.1f}."
    )
    before = f"load of the machine before: {load[0]:.1f}"
    return "\n".join([setting, "", markdown_table(rows, columns), "", f"{machine_line()}; {before}"])


def compare(settings: ScalingSettings) -> int:
    """Measure and print the table; 1 when a step scales worse than the aim."""
    load = os.getloadavg()
    results = run(settings)
    print(markdown(results, settings, load))
    if settings.json:
        content = {"machine": machine_line(), "load": load, "cores": len(os.sched_getaffinity(0))}
        write_json(settings.json, content | {"workers": settings.workers, "results": results})
    return int(any(row["scaling"] < AIM * settings.workers for row in results.values()))
