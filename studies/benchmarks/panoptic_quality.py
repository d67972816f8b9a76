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
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchmetrics.detection import PanopticQuality

from cups.io.files import write_json
from cups.metrics import PanopticQualitySemanticMatching
from cups.ops.panoptic_map import PanopticMap
from studies.benchmarks.literal_quality import literal_counts
from studies.benchmarks.settings import QualitySettings
from studies.benchmarks.street_maps import CLASSES, Maps, read_coco, scenes, write_coco


def run_ours(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score panoptic maps with this project's metric; both void rules come from one state."""
    return _run_ours([([_ids_and_table(part)] for part in pair) for pair in maps], repeats)


def _ids_and_table(pairs: np.ndarray) -> PanopticMap:
    """Return the map as a network gives it: where its ids change is not known yet."""
    return replace(PanopticMap.from_pairs(pairs), starts=None)


def run_ours_from_pairs(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score (H, W, 2) tensors with this project's metric."""
    return _run_ours([(torch.from_numpy(part)[None] for part in pair) for pair in maps], repeats)


def _run_ours(given: Iterable[Iterable[Any]], repeats: int) -> dict[str, Any]:
    pairs = [tuple(pair) for pair in given]
    metric, times = ours(), []
    for _ in range(repeats):
        metric = ours()
        for pred, target in pairs:
            start = time.process_time()
            metric.update(pred, target)
            times.append(time.process_time() - start)
    start = time.process_time()
    both = metric.compute_all()
    return {"times": times, "final": time.process_time() - start} | summary(metric, both, len(pairs))


def run_ours_from_png(root: Path, repeats: int) -> dict[str, Any]:
    """Score with this project's metric from the PNG files that hotcoco reads, to compare like with like."""
    count, times = len(list((root / "pred").iterdir())), []
    metric, both = ours(), {}
    for _ in range(repeats):
        metric = ours()
        start = time.process_time()
        for index in range(count):
            pred, target = (read_coco(root, name, index) for name in ("pred", "target"))
            metric.update([pred], [target])
        both = metric.compute_all()
        times.append((time.process_time() - start) / count)
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
        start = time.process_time()
        metric.update(*tensors)
        times.append(time.process_time() - start)
    start = time.process_time()
    per_class = metric.compute()[0]
    final = time.process_time() - start
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
        start = time.process_time()
        evaluation = PanopticEval(str(root / "target.json"), str(root / "pred.json"))
        evaluation.evaluate()
        result = evaluation.results()
        times.append((time.process_time() - start) / len(list((root / "pred").iterdir())))
        per_class = result["per_class"]
    # It says -1 of a class that does not occur.
    values = [max(per_class[index + 1]["pq"], 0.0) for index in range(CLASSES.num_classes)]
    scores = {"pq_per_class": {"standard": values}, "pq": {"standard": result["All"]["pq"]}}
    return {"times": times, "final": None, "state": None} | scores


def run_definition(maps: Maps, repeats: int) -> dict[str, Any]:
    """Score by the words of Kirillov et al. (2019), section 4.1, segment by segment, crowds included."""
    del repeats  # seconds an image: once is enough
    sums, times = np.zeros((4, CLASSES.num_classes)), []
    for pred, target in maps:
        start = time.process_time()
        sums += literal_counts(pred, target, CLASSES)
        times.append(time.process_time() - start)
    iou, hits, wrong, missed = sums
    weight = hits + wrong / 2 + missed / 2
    per_class = iou / np.maximum(weight, 0.5)
    scores = {"pq_per_class": {"standard": per_class.tolist()}}
    scores |= {"pq": {"standard": float(per_class[weight > 0].mean())}}
    return {"times": times, "final": None, "state": None} | scores


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


def one_thread() -> None:
    """Let every library of this process and of those forked from it work on one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ["RAYON_NUM_THREADS"] = "1"


def _worker(name: str, settings: QualitySettings, maps: Maps, connection: Any) -> None:
    source: Maps | Path = maps
    with tempfile.TemporaryDirectory() as folder:
        if name.endswith("PNG"):
            write_coco(maps, Path(folder))
            source = Path(folder)
        before = _peak_mib(reset=True)
        result = RUNS[name](source, settings.repeats)
    connection.send(result | {"memory": _peak_mib() - before})


def measure(name: str, settings: QualitySettings, maps: Maps) -> dict[str, Any] | None:
    """Run one row in a process forked with the maps in memory; None when its package is not installed."""
    package = name.split(",")[0]
    if package not in OWN:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_worker, args=(name, settings, maps, sender))
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
    packages = ("numpy", "torch", "torchmetrics", "hotcoco", "opencv-python-headless", "kornia-rs")
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
        "| | CPU ms a pair | times ours | end, ms | working memory, MiB | kept state, kB a pair | PQ |",
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
    one_thread()
    for noise in settings.noise:
        results, maps = {}, scenes(settings, noise)
        for name in RUNS:
            result = measure(name, settings, maps)
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
