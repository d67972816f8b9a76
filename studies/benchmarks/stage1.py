"""Time of the parts of Stage 1 that are not trained, per image and core, against the naive way.

The naive way labels one class after the other with `scipy.ndimage.label`, looks for the nearest label at
every offset of a disc, computes every distance of every pixel in float64, blurs what is averaged after, and
writes PNG files with default settings; its results are compared with ours.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from scipy.spatial.distance import cdist

from cups.backbones.texton import Texton, blur, to_grid
from cups.data.toy.objects import ID
from cups.data.toy.render import render
from cups.data.toy.scene import build_scene
from cups.io.files import write_json
from cups.io.markdown import markdown_table
from cups.io.png import encode_ids, read_ids, write_png
from cups.ops.components import relabel_by_area
from cups.ops.depth_edges import depth_edges
from cups.ops.kmeans import centroid_scores, fit_kmeans, unit_rows
from cups.ops.smooth_labels import smooth_labels
from cups.taxonomy import class_set
from pseudo_labels.algorithms.cups_format import statistics_of
from pseudo_labels.algorithms.instance_splitting import depth_guided_instances
from pseudo_labels.generators.cups_format import Convert, TrainingLabels
from pseudo_labels.settings.groups import Splitting
from pseudo_labels.settings.outlines import LEAST_AREA, NETWORK, STEREO, pixels_of
from pseudo_labels.steps.frames import Folder, Frame
from studies.benchmarks.settings import Stage1Settings
from studies.measure import machine_line

CLASSES = class_set(19)
CODE_STRIDE = 22
"""Pixels of a code cell: CAUSE codes of a 1024x2048 image are 46x92."""
CHANNELS = 90
FARTHEST = 80.0
TARGETS = {
    "instance splitting": 60,
    "objects of depth": 150,
    "overcluster assignment": 40,
    "CUPS conversion": 40,
    "texton features": 1000,
    "PNG of labels": 8,
}
"""Milliseconds an image of 1024x2048 pixels may take on a core."""
LEAST_AGREEMENT = 0.995
"""Share of equal pixels; the rest are ties, which the two ways may break differently."""


@dataclass(frozen=True)
class Scene:
    """One street: semantics (H, W) uint8 with ragged borders, depth (H, W) metres, codes (h, w, 90)."""

    semantic: np.ndarray
    depth: np.ndarray
    codes: np.ndarray


def street(size: tuple[int, int], index: int, seed: int) -> Scene:
    """Render a street without its texture; borders are frayed and specks added, as in predicted labels."""
    rng = np.random.default_rng((seed, index))
    scene = build_scene(rng, index, rng.permutation(7)[:5])
    exact = render(scene.quads(0), scene.camera(0, *size), None, ID["sky"])
    semantic = CLASSES.from_id[exact.label.astype(np.uint8)].astype(np.uint8)
    coarse = rng.normal(0, 3, (2, size[0] // 4, size[1] // 4)).astype(np.float32)
    shift = [cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC) for part in coarse]
    rows, columns = np.indices(size, dtype=np.float32)
    frayed = cv2.remap(semantic, columns + shift[0], rows + shift[1], cv2.INTER_NEAREST)
    depth = np.minimum(exact.depth, FARTHEST).astype(np.float32)
    return Scene(frayed, depth, street_codes(semantic, depth, rng, seed))


def street_codes(semantic: np.ndarray, depth: np.ndarray, rng: np.random.Generator, seed: int) -> np.ndarray:
    """Return (h, w, 90) float32 codes: a direction per class, blended at borders, and slow and fast noise."""
    cells = max(2, semantic.shape[0] // CODE_STRIDE), max(2, semantic.shape[1] // CODE_STRIDE)
    directions = np.random.default_rng(seed).normal(size=(CLASSES.num_classes + 1, CHANNELS))
    share = np.stack(
        [
            cv2.resize((semantic == value).astype(np.float32), cells[::-1], interpolation=cv2.INTER_AREA)
            for value in (*range(CLASSES.num_classes), 255)
        ],
        axis=-1,
    )
    near = cv2.resize(np.log(depth), cells[::-1], interpolation=cv2.INTER_AREA)[..., None]
    slow = cv2.GaussianBlur(rng.normal(size=(*cells, CHANNELS)).astype(np.float32), (0, 0), 4) * 5
    fast = rng.normal(size=(*cells, CHANNELS))
    mixed = share @ directions + 0.3 * near * np.roll(directions[0], 7) + 0.4 * slow + 0.25 * fast
    return unit_rows(mixed)


@dataclass(frozen=True)
class Job:
    """One part of Stage 1 in two ways, each scene -> result; `agreement` returns the share that is equal."""

    ours: Callable[[Scene], Any]
    naive: Callable[[Scene], Any]
    agreement: Callable[[Any, Any], float]


def share_equal(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of equal entries."""
    return float((first == second).mean())


def splitting(settings: Stage1Settings) -> Job:
    """Instances of thing classes along depth edges."""
    things, way = CLASSES.things, Splitting().for_depth(STEREO, named=True)
    least, eight = pixels_of(LEAST_AREA["log"], settings.size[0]), np.ones((3, 3))

    def naive(scene: Scene) -> np.ndarray:
        regions = np.where(np.isin(scene.semantic, things), scene.semantic, 0)
        cut = depth_edges(scene.depth, way.sigma, inside=regions > 0) > (way.grad_threshold or 0)
        pieces, count = np.zeros(regions.shape, dtype=np.int64), 0
        connected = np.zeros_like(pieces)
        for thing in things:
            own, number = ndimage.label((regions == thing) & ~cut, structure=eight)
            pieces[own > 0] = own[own > 0] + count
            own, whole = ndimage.label(regions == thing, structure=eight)
            connected[own > 0] = own[own > 0] + count
            count += number + whole
        labels = relabel_by_area(first_seen(pieces), least).astype(np.int64)
        for region in np.unique(connected[connected > 0]):
            inside = connected == region
            own = inside & (labels > 0)
            if own.any():
                nearest = ndimage.distance_transform_edt(~own, return_distances=False, return_indices=True)
                labels[inside] = labels[nearest[0][inside], nearest[1][inside]]
            elif inside.sum() >= least:
                labels[inside] = labels.max() + 1
        return relabel_by_area(labels)

    return Job(
        lambda scene: depth_guided_instances(scene.semantic, scene.depth, things, way),
        naive,
        share_equal,
    )


def objects(settings: Stage1Settings) -> Job:
    """Instances that depth proposes, for clusters without names."""
    way = Splitting(proposals="objects").for_depth(NETWORK, named=False)

    def ours(scene: Scene) -> np.ndarray:
        return depth_guided_instances(scene.semantic, scene.depth, CLASSES.things, way)

    def naive(scene: Scene) -> np.ndarray:
        with (
            patch("cups.ops.ground.give_back", every_offset),
            patch("cups.ops.components.give_back", every_offset),
        ):
            return ours(scene)

    return Job(ours, naive, share_equal)


def every_offset(labels: np.ndarray, regions: np.ndarray, radius: int) -> np.ndarray:
    """Do what `give_back` does for all unlabelled pixels at every offset of the disc, nearest first."""
    padded, classes = np.pad(labels, radius), np.pad(regions, radius)
    result, left = padded.copy(), np.argwhere((padded == 0) & (classes != 0))
    reach = np.arange(-radius, radius + 1)
    steps = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    squared = (steps**2).sum(axis=1)
    for step in steps[np.lexsort((steps[:, 1], steps[:, 0], squared))][1:]:
        if (step**2).sum() <= radius**2:
            places, own = tuple((left + step).T), tuple(left.T)
            hit = (padded[places] != 0) & (classes[places] == classes[own])
            result[own[0][hit], own[1][hit]] = padded[places][hit]
            left = left[~hit]
    return result[radius:-radius, radius:-radius]


def textons(settings: Stage1Settings) -> Job:
    """Features of the backbone without weights, at the size of the image."""
    backbone = Texton()

    def ours(scene: Scene) -> torch.Tensor:
        grey = torch.from_numpy(np.log(scene.depth) + scene.semantic % 7)
        found: torch.Tensor = backbone((grey - grey.mean()).expand(1, 3, *grey.shape))
        return found

    def naive(scene: Scene) -> torch.Tensor:
        def apart(maps: torch.Tensor, sigma: float, grid: tuple[int, int]) -> torch.Tensor:
            return to_grid(blur(maps, sigma), grid)

        with patch("cups.backbones.texton.blur_to_grid", apart):
            return ours(scene)

    def agreement(first: torch.Tensor, second: torch.Tensor) -> float:
        return float(torch.isclose(first, second, atol=1e-5).float().mean())

    return Job(ours, naive, agreement)


def png_of_labels(settings: Stage1Settings) -> Job:
    """A semantic map to the bytes of its file."""

    def naive(scene: Scene) -> bytes:
        file = io.BytesIO()
        Image.fromarray(scene.semantic).save(file, "PNG")
        return file.getvalue()

    def agreement(first: bytes, second: bytes) -> float:
        decoded = (np.array(Image.open(io.BytesIO(data))) for data in (first, second))
        return share_equal(*decoded)

    return Job(lambda scene: encode_ids(scene.semantic), naive, agreement)


def first_seen(ids: np.ndarray) -> np.ndarray:
    """Number ids by their first pixel, so that equal areas come in the same order in both ways."""
    values, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.zeros(len(values), dtype=np.int64)
    rank[np.argsort(np.where(values == 0, -1, first), kind="stable")] = np.arange(len(values))
    return (rank if values[0] == 0 else rank + 1)[inverse.reshape(ids.shape)]


def assignment(settings: Stage1Settings, scenes: list[Scene]) -> Job:
    """Cluster ids at image size: the centroid with the highest interpolated score."""
    codes = np.concatenate([scene.codes.reshape(-1, CHANNELS) for scene in scenes])
    rng = np.random.default_rng(settings.seed)
    chosen = [rng.permutation(len(codes))[: 20 * settings.k] for _ in range(3)]
    centroids = fit_kmeans([codes[part] for part in chosen], settings.k, settings.seed)
    size = settings.shape

    def ours(scene: Scene) -> np.ndarray:
        scores = torch.from_numpy(centroid_scores(scene.codes, centroids))
        return smooth_labels(scores, size).numpy()

    def naive(scene: Scene) -> np.ndarray:
        # Scores are linear in the codes, so the codes can be interpolated instead of the scores; the half
        # square of the centroid is all that distances add.
        planes = torch.from_numpy(scene.codes).double().permute(2, 0, 1)[None]
        pixels = torch.nn.functional.interpolate(planes, size=size, mode="bilinear")[0]
        vectors, target = pixels.flatten(1).T.numpy(), centroids.astype(np.float64)
        parts = (vectors[start : start + 65536] for start in range(0, len(vectors), 65536))
        nearest = [cdist(part, target, "sqeuclidean").argmin(axis=1) for part in parts]
        return np.concatenate(nearest).reshape(size)

    return Job(ours, naive, share_equal)


def conversion(folder: Path, scenes: list[Scene], instances: list[np.ndarray]) -> Job:
    """Semantic and instance PNG files to the training format with its statistics."""
    sources = Folder(folder, "semantic", ".png"), Folder(folder, "instance", ".png")
    labels = TrainingLabels(folder / "cups", CLASSES.num_classes, CLASSES.things)
    frames = {
        id(scene): Frame(f"frame{index}", Path("train/street"), folder / "none")
        for index, scene in enumerate(scenes)
    }
    for scene, ids in zip(scenes, instances, strict=True):
        write_png(sources[0].path(frames[id(scene)]), scene.semantic)
        write_png(sources[1].path(frames[id(scene)]), ids)
    convert = Convert(*sources, labels)

    def ours(scene: Scene) -> tuple[np.ndarray, ...]:
        frame = frames[id(scene)]
        convert(frame)
        semantic, instance = (read_ids(output.path(frame)) for output in labels.files)
        counted = statistics_of(semantic, instance, CLASSES.num_classes)
        return semantic, instance, counted.all_pixels, counted.inside

    def naive(scene: Scene) -> tuple[np.ndarray, ...]:
        frame = frames[id(scene)]
        semantic, instance = (np.array(Image.open(source.path(frame))) for source in sources)
        for index in range(1, int(instance.max()) + 1):
            mask = instance == index
            votes = np.bincount(semantic[mask], minlength=256)[:-1]
            things = votes[list(CLASSES.things)]
            semantic[mask] = CLASSES.things[int(things.argmax())] if things.any() else votes.argmax()
        Image.fromarray(semantic).save(folder / "naive_semantic.png")
        Image.fromarray(instance).save(folder / "naive_instance.png")
        inside = instance > 0
        counts = [
            np.array([np.count_nonzero(where & (semantic == value)) for value in range(CLASSES.num_classes)])
            for where in (np.ones_like(inside), inside)
        ]
        return semantic, instance, *counts

    def agreement(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> float:
        return min(share_equal(one, other) for one, other in zip(first, second, strict=True))

    return Job(ours, naive, agreement)


def best_time(run: Callable[[Scene], Any], scenes: list[Scene], repeats: int) -> tuple[float, float]:
    """Return the best (processor, wall) milliseconds per image over `repeats` passes."""
    times = []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        for scene in scenes:
            run(scene)
        times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    cpu, wall = (1000 * min(part) / len(scenes) for part in zip(*times, strict=True))
    return cpu, wall


def measure(job: Job, scenes: list[Scene], settings: Stage1Settings) -> dict[str, float]:
    """Time a part both ways; the naive way runs once, on the first scene."""
    cpu, wall = best_time(job.ours, scenes, settings.repeats)
    naive, _ = best_time(job.naive, scenes[:1], 1)
    equal = float("nan")
    if not settings.no_check:
        equal = job.agreement(job.ours(scenes[0]), job.naive(scenes[0]))
    return {"ours_cpu_ms": cpu, "ours_wall_ms": wall, "naive_cpu_ms": naive, "equal": equal}


def run(settings: Stage1Settings) -> dict[str, dict[str, float]]:
    """Measure all parts in this process, on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    scenes = [street(settings.shape, index, settings.seed) for index in range(settings.images)]
    split = splitting(settings)
    with tempfile.TemporaryDirectory() as folder:
        jobs = (
            split,
            objects(settings),
            assignment(settings, scenes),
            conversion(Path(folder), scenes, [split.ours(scene) for scene in scenes]),
            textons(settings),
            png_of_labels(settings),
        )
        return {name: measure(job, scenes, settings) for name, job in zip(TARGETS, jobs, strict=True)}


def markdown(results: dict[str, dict[str, float]], settings: Stage1Settings) -> str:
    """Return the table with the setting above and the machine below it."""
    height, width = settings.shape
    rows = [
        (
            name + (f", k = {settings.k}" if name.startswith("overcluster") else ""),
            f"{row['ours_cpu_ms']:.0f}",
            f"{row['ours_wall_ms']:.0f}",
            TARGETS[name],
            f"{row['naive_cpu_ms']:.0f}",
            f"{row['naive_cpu_ms'] / row['ours_cpu_ms']:.0f}x",
            "not checked" if row["equal"] != row["equal"] else f"{100 * row['equal']:.4f} %",
        )
        for name, row in results.items()
    ]
    columns = ("", "CPU, ms", "wall, ms", "aim at 1024x2048, ms", "naive, CPU ms", "faster", "equal results")
    passes = f"one thread, best of {settings.repeats} passes"
    setting = f"{settings.images} streets of {height}x{width} pixels, {passes}."
    ties = "Instances differ where a pixel of a cut is equally far from two of them; equal textons: to 1e-5."
    return "\n".join([setting, "", markdown_table(rows, columns), "", ties, machine_line()])


def compare(settings: Stage1Settings) -> int:
    """Measure and print the table; 1 when the two ways disagree beyond rounding and ties."""
    results = run(settings)
    print(markdown(results, settings))
    if settings.json:
        content = {"machine": machine_line(), "size": list(settings.size), "results": results}
        write_json(settings.json, content)
    return int(any(row["equal"] < LEAST_AGREEMENT for row in results.values()))
