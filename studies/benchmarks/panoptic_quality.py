"""Time and memory of panoptic quality: ours and others on the same street-like maps, clean and noisy."""

from __future__ import annotations

import ctypes
import importlib.metadata
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchmetrics.detection import PanopticQuality

from cups.io.coco_panoptic import from_rgb
from cups.io.files import write_json
from cups.io.png import read_image
from cups.metrics import PanopticQualitySemanticMatching
from cups.ops.panoptic_map import PanopticMap, number_values
from cups.taxonomy import VOID, class_set
from studies.benchmarks.settings import QualitySettings

CLASSES = class_set(19)
Maps = list[tuple[np.ndarray, np.ndarray]]
HORIZON = 0.45


def street(height: int, width: int, segments: int, rng: np.random.Generator) -> np.ndarray:
    """Return an (H, W, 2) int64 map: wavy stuff bands, things that grow towards the viewer, a crowd, void."""
    panoptic = np.zeros((height, width, 2), dtype=np.int64)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    for share, stuff in ((0.0, 10), (0.15, 8), (0.25, 2), (0.42, 9), (0.5, 1), (0.6, 0)):
        phase = columns / width * rng.uniform(5, 60) + rng.uniform(0, 6)
        wave = np.sin(phase) * height * rng.uniform(0.01, 0.05)
        panoptic[rows >= share * height + wave] = (stuff, 0)
    things = segments - len(CLASSES.stuffs)
    for instance, depth in enumerate(np.sort(rng.uniform(0, 1, max(things, 1))), start=1):
        side = height * (0.02 + 0.2 * depth**2)
        center = (height * (HORIZON + 0.4 * depth), rng.uniform(0, width))
        category = int(rng.choice(CLASSES.things))
        _ellipse(panoptic, center, (side, side * rng.uniform(0.4, 2)), (category, instance))
    for category in (3, 4, 5, 6, 7):
        center = (height * rng.uniform(0.2, 0.5), rng.uniform(0, width))
        _ellipse(panoptic, center, (height * rng.uniform(0.02, 0.1), height * 0.03), (category, 0))
    _ellipse(panoptic, (height * 0.5, rng.uniform(0, width)), (height * 0.06, height * 0.12), (11, 0))
    panoptic[int(height * 0.95) :] = (VOID, 0)
    return panoptic


def _ellipse(
    panoptic: np.ndarray, center: tuple[float, float], radii: tuple[float, float], value: tuple[int, int]
) -> None:
    height, width = panoptic.shape[:2]
    top, left = (max(int(c - r), 0) for c, r in zip(center, radii, strict=True))
    bottom, right = min(int(center[0] + radii[0]) + 1, height), min(int(center[1] + radii[1]) + 1, width)
    rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)[None]
    inside = ((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 < 1
    panoptic[top:bottom, left:right][inside] = value


def imperfect(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a prediction: shifted borders, some objects lost, confused or void, no crowd known as one."""
    shift = max(1, target.shape[0] // 200)
    pred = np.roll(target, (shift, -2 * shift), axis=(0, 1))
    pred[target.shape[0] * 19 // 20 :] = (0, 0)
    for instance in range(1, int(target[..., 1].max()) + 1):
        choice, where = rng.random(), pred[..., 1] == instance
        if choice < 0.25:
            pred[where] = ((VOID, 0), (2, 0), (int(rng.choice(CLASSES.things)), instance))[int(choice * 12)]
    pred[(pred[..., 0] == 11) & (pred[..., 1] == 0)] = (11, 10_000)
    return pred


def scenes(settings: QualitySettings, noise: float = 0.0) -> Maps:
    """Return (prediction, target) pairs, the same in every process.

    noise: share of predicted pixels that take what some other pixel of the map has.
    """
    rng = np.random.default_rng(settings.seed)
    size = settings.height, settings.width
    targets = [street(*size, settings.segments, rng) for _ in range(settings.images)]
    maps = [(imperfect(target, rng), target) for target in targets]
    for pred, _ in maps:
        hit = rng.random(size) < noise
        pred[hit] = pred.reshape(-1, 2)[rng.integers(0, hit.size, np.count_nonzero(hit))]
    return maps


def run_ours(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score panoptic maps with this project's metric; both void rules come from one state."""
    return _run_ours([([PanopticMap.from_pairs(part)] for part in pair) for pair in maps], repeats)


def run_ours_from_pairs(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score (H, W, 2) tensors with this project's metric."""
    return _run_ours([(torch.from_numpy(part)[None] for part in pair) for pair in maps], repeats)


def _run_ours(given: Iterable[Iterable[Any]], repeats: int) -> dict[str, Any]:
    pairs = [tuple(pair) for pair in given]
    metric, times = ours(), []
    for _ in range(repeats):
        metric = ours()
        for pred, target in pairs:
            start = time.perf_counter()
            metric.update(pred, target)
            times.append(time.perf_counter() - start)
    start = time.perf_counter()
    both = metric.compute_all()
    return {"times": times, "final": time.perf_counter() - start} | summary(metric, both, len(pairs))


def run_ours_from_png(root: Path, repeats: int) -> dict[str, Any]:
    """Score with this project's metric from the PNG files that hotcoco reads, to compare like with like."""
    count, times = len(list((root / "pred").iterdir())), []
    metric, both = ours(), {}
    for _ in range(repeats):
        metric = ours()
        start = time.perf_counter()
        for index in range(count):
            pred, target = (read_coco(root, name, index) for name in ("pred", "target"))
            metric.update([pred], [target])
        both = metric.compute_all()
        times.append((time.perf_counter() - start) / count)
    return {"times": times, "final": None} | summary(metric, both, count)


def ours() -> PanopticQualitySemanticMatching:
    """Return an empty metric whose clusters are the classes, so that all rows score the same maps."""
    return PanopticQualitySemanticMatching(
        CLASSES.things,
        CLASSES.stuffs,
        CLASSES.num_classes,
        things_prototype=CLASSES.things,
        stuffs_prototype=CLASSES.stuffs,
    )


def summary(metric: PanopticQualitySemanticMatching, both: dict[Any, Any], images: int) -> dict[str, Any]:
    """Return the part of a row that does not depend on where the maps came from."""
    per_class = {rule: scores["pq_per_class"].tolist() for rule, scores in both.items()}
    occurring = {rule: float(scores["pq"]) for rule, scores in both.items()}
    return {"state": metric.state_bytes / images, "pq_per_class": per_class, "pq": occurring}


def run_torchmetrics(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score with torchmetrics; it keeps sums only, but knows no matching of clusters."""
    del repeats  # seconds an image: once is enough
    metric = PanopticQuality(
        set(CLASSES.things), set(CLASSES.stuffs), allow_unknown_preds_category=True, return_per_class=True
    )
    times = []
    for pred, target in maps:
        tensors = torch.from_numpy(pred)[None], torch.from_numpy(target)[None]
        start = time.perf_counter()
        metric.update(*tensors)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    per_class = metric.compute()[0]
    final = time.perf_counter() - start
    occurs = metric.true_positives + metric.false_positives + metric.false_negatives > 0
    scores = {
        # It lists things first.
        "pq_per_class": {"upstream": per_class[np.argsort([*CLASSES.things, *CLASSES.stuffs])].tolist()},
        "pq": {"upstream": float(per_class[occurs].mean())},
    }
    return {"times": times, "final": final, "state": 0.0} | scores


def run_hotcoco(root: Path, repeats: int) -> dict[str, Any]:
    """Score with hotcoco, which reads COCO panoptic JSON and PNG files; reading is part of its time."""
    from hotcoco.panoptic import PanopticEval

    times, per_class = [], {}
    for _ in range(repeats):
        start = time.perf_counter()
        evaluation = PanopticEval(str(root / "target.json"), str(root / "pred.json"))
        evaluation.evaluate()
        result = evaluation.results()
        times.append((time.perf_counter() - start) / len(list((root / "pred").iterdir())))
        per_class = result["per_class"]
    # It says -1 of a class that does not occur.
    values = [max(per_class[index + 1]["pq"], 0.0) for index in range(CLASSES.num_classes)]
    scores = {"pq_per_class": {"standard": values}, "pq": {"standard": result["All"]["pq"]}}
    return {"times": times, "final": None, "state": None} | scores


ID_FACTOR = 20_000
"""Segment id in the PNG = (category + 1) * ID_FACTOR + instance; 0 is void."""


def write_coco(maps: Maps, root: Path) -> None:
    """Write {pred,target}.json and the folders of panoptic PNG beside them."""
    categories = [
        {"id": index + 1, "name": name, "isthing": int(index in CLASSES.things)}
        for index, name in enumerate(CLASSES.names)
    ]
    height, width = maps[0][0].shape[:2]
    images = [
        {"id": index, "file_name": f"{index}.png", "height": height, "width": width}
        for index in range(len(maps))
    ]
    for part, name in enumerate(("pred", "target")):
        (root / name).mkdir()
        annotations = []
        for index, pair in enumerate(maps):
            category, instance = pair[part][..., 0], pair[part][..., 1]
            ids = np.where(category == VOID, 0, (category + 1) * ID_FACTOR + instance)
            bgr = np.stack((ids >> 16, ids >> 8 & 255, ids & 255), axis=-1).astype(np.uint8)
            cv2.imwrite(str(root / name / f"{index}.png"), bgr)
            numbered = zip(*(column.tolist() for column in np.unique(ids, return_counts=True)), strict=True)
            segments = [_segment(segment, area, name) for segment, area in numbered if segment]
            annotations.append({"image_id": index, "file_name": f"{index}.png", "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(root / f"{name}.json", content, indent=None)


def _segment(segment_id: int, area: int, name: str) -> dict[str, int]:
    category, instance = segment_id // ID_FACTOR - 1, segment_id % ID_FACTOR
    crowd = name == "target" and category in CLASSES.things and instance == 0
    return {"id": segment_id, "category_id": category + 1, "area": area, "iscrowd": int(crowd)}


def read_coco(root: Path, name: str, index: int) -> PanopticMap:
    """Read one PNG of `write_coco`."""
    numbers, ids = number_values(from_rgb(read_image(root / name / f"{index}.png")))
    return PanopticMap(numbers, np.where(ids == 0, VOID, ids // ID_FACTOR - 1), ids % ID_FACTOR)


def run_definition(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score by the words of Kirillov et al. (2019), section 4.1, segment by segment, crowds included."""
    del repeats  # seconds an image: once is enough
    sums, times = np.zeros((4, CLASSES.num_classes)), []
    for pred, target in maps:
        start = time.perf_counter()
        sums += _by_definition(pred, target)
        times.append(time.perf_counter() - start)
    iou, hits, wrong, missed = sums
    weight = hits + wrong / 2 + missed / 2
    per_class = iou / np.maximum(weight, 0.5)
    scores = {"pq_per_class": {"standard": per_class.tolist()}}
    scores |= {"pq": {"standard": float(per_class[weight > 0].mean())}}
    return {"times": times, "final": None, "state": None} | scores


def _by_definition(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return sum of IoU, true positives, false positives and false negatives of each class: (4, C)."""
    sums = np.zeros((4, CLASSES.num_classes))
    void = target[..., 0] == VOID
    truths = {segment: (target == segment).all(axis=-1) for segment in _segments_of(target)}
    crowds = {segment for segment in truths if segment[1] == 0 and segment[0] in CLASSES.things}
    found = set()
    for segment in _segments_of(pred):
        mask, kind = (pred == segment).all(axis=-1), segment[0]
        for truth, other in truths.items():
            union = np.count_nonzero((mask & ~void) | other)
            iou = np.count_nonzero(mask & other) / union
            if truth[0] == kind and truth not in crowds and iou > 0.5:
                found.add(truth)
                sums[:2, kind] += iou, 1
                break
        else:
            group = truths.get((kind, 0)) if kind in CLASSES.things else None
            excused = void if group is None else void | group
            sums[2, kind] += 2 * np.count_nonzero(mask & excused) <= np.count_nonzero(mask)
    for truth in truths.keys() - crowds - found:
        sums[3, truth[0]] += 1
    return sums


def _segments_of(panoptic: np.ndarray) -> list[tuple[int, int]]:
    pairs = np.unique(panoptic.reshape(-1, 2), axis=0).tolist()
    return [(category, instance) for category, instance in pairs if category != VOID]


RUNS: dict[str, Callable[[Any, int], dict[str, Any]]] = {
    "ours": run_ours,
    "ours, from (H, W, 2)": run_ours_from_pairs,
    "ours, from PNG": run_ours_from_png,
    "the paper's definition": run_definition,
    "torchmetrics": run_torchmetrics,
    "hotcoco, from PNG": run_hotcoco,
}


OWN = ("ours", "the paper's definition")
"""Starts of the rows that need no further package."""


def _peak_mib(reset: bool = False) -> float:
    """Return the most memory this process held since the last reset (Linux)."""
    if reset:
        ctypes.CDLL(None).malloc_trim(0)  # else freed pages of the set-up would hide what the row takes
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def _worker(name: str, settings: QualitySettings, noise: float, connection: Any) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ["RAYON_NUM_THREADS"] = "1"
    maps = scenes(settings, noise)
    source: Maps | Path = maps
    with tempfile.TemporaryDirectory() as folder:
        if name.endswith("PNG"):
            write_coco(maps, Path(folder))
            source = Path(folder)
        before = _peak_mib(reset=True)
        result = RUNS[name](source, settings.repeats)
    connection.send(result | {"memory": _peak_mib() - before})


def measure(name: str, settings: QualitySettings, noise: float = 0.0) -> dict[str, Any] | None:
    """Run one row in a new process; None when its package is not installed."""
    package = name.split(",")[0]
    if package not in OWN:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(name, settings, noise, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    finally:
        process.join()
    result["milliseconds"] = 1000 * float(np.median(result.pop("times")))
    return result


def largest_difference(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return by void rule the largest difference of any class's PQ between ours and the others."""
    differences: dict[str, float] = {}
    for result in results.values():
        for rule, values in result["pq_per_class"].items():
            gap = float(np.abs(np.array(values) - results["ours"]["pq_per_class"][rule]).max())
            differences[rule] = max(differences.get(rule, 0.0), gap)
    return differences


def environment() -> dict[str, str]:
    """Return machine and versions."""
    packages = ("numpy", "torch", "torchmetrics", "hotcoco")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cpu = Path("/proc/cpuinfo")
    models = [line for line in cpu.read_text().splitlines() if "model name" in line] if cpu.exists() else []
    model = models[0].split(":")[1].strip() if models else platform.machine()
    return {"machine": f"{model}, one thread", "python": platform.python_version(), **versions}


def markdown(results: dict[str, dict[str, Any]], settings: QualitySettings, noise: float) -> str:
    """Return the table of the maps of one noise, and the agreement of its rows."""
    noisy = f", {100 * noise:g} % of the predicted pixels noise" if noise else ""
    lines = [
        f"{settings.images} pairs of {settings.height}x{settings.width} pixels, "
        f"about {settings.segments} segments each{noisy}.",
        "",
        "| | ms an image | times ours | end, ms | working memory, MiB | kept state, kB an image | PQ |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for name, result in results.items():
        state = "-" if result["state"] is None else f"{result['state'] / 1000:.1f}"
        final = "-" if result["final"] is None else f"{1000 * result['final']:.1f}"
        cells = (
            name,
            f"{result['milliseconds']:.1f}",
            f"{result['milliseconds'] / results['ours']['milliseconds']:.1f}",
            final,
            f"{result['memory']:.0f}",
            state,
            ", ".join(f"{rule} {mean:.4f}" for rule, mean in result["pq"].items()),
        )
        lines.append(f"| {' | '.join(cells)} |")
    gaps = ", ".join(f"{rule} {gap:.1e}" for rule, gap in largest_difference(results).items())
    return "\n".join([*lines, "", f"Largest difference of any class's PQ: {gaps}.", ""])


def compare(settings: QualitySettings) -> int:
    """Run all rows on maps of each noise and print the tables; 1 when two implementations disagree."""
    tables, worst = [], 0.0
    for noise in settings.noise:
        results = {}
        for name in RUNS:
            result = measure(name, settings, noise)
            if result is not None:
                results[name] = result
            elif noise == settings.noise[0]:
                package = name.split(",")[0]
                print(f"({package} is not installed: no row of it; pip install {package})")
        print(markdown(results, settings, noise))
        differences = largest_difference(results)
        worst = max(worst, *differences.values())
        tables.append({"noise": noise, "results": results, "difference": differences})
    facts = environment()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    if settings.json:
        write_json(settings.json, {"environment": facts, "tables": tables})
    return int(worst > 1e-6)
