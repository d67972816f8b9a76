"""One evaluation pass, and what of its time the network takes."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

import cups
from cups.data import CityscapesPanopticValidation
from cups.data.utils import identity_collate
from cups.evaluation.predict import maps_of, predict, save_to, score_with
from cups.io.files import write_json
from cups.io.markdown import markdown_table
from cups.metrics import PanopticQualitySemanticMatching
from cups.model import panoptic_cascade_mask_r_cnn
from cups.structures import PseudoClasses
from studies.benchmarks.settings import EvaluationSettings
from studies.commands import toy_streets
from studies.measure import machine_line, run_measured

AIM = 0.9
"""Share of the wall time that is to be the network's."""


class Timed(nn.Module):
    """A network that counts the seconds it takes.

    Attributes:
        seconds: wall time.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seconds = model, 0.0

    def predict_maps(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict as the network does."""
        start = time.perf_counter()
        found: list[dict[str, Any]] = self.model.predict_maps(inputs)  # type: ignore[operator]
        self.seconds += time.perf_counter() - start
        return found


def network(settings: EvaluationSettings) -> tuple[nn.Module, PseudoClasses]:
    """Return the network of the checkpoint, or one with random weights."""
    if settings.checkpoint is not None:
        opened = cups.load(settings.checkpoint)
        return opened.model, opened.split.pseudo_classes
    pseudo = PseudoClasses(settings.things, settings.stuffs)
    torch.manual_seed(settings.seed)
    model = panoptic_cascade_mask_r_cnn(pseudo.things, pseudo.stuffs + 1, model_config=settings.config)
    return model.eval(), pseudo


def run(settings: EvaluationSettings) -> dict[str, float]:
    """Evaluate, and return seconds of a frame, the network's seconds, its share, and the peak in MiB."""
    torch.set_num_threads(1)
    model, pseudo = network(settings)
    timed = Timed(model)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sides = ("--height", str(settings.size[0]), "--width", str(settings.size[1]))
        seed = ("--seed", str(settings.seed))
        streets = toy_streets(root, *sides, *seed, frames=(1, settings.images))
        run_measured(streets.line(), streets.name)
        dataset = CityscapesPanopticValidation(root, "val", 19)
        metric = PanopticQualitySemanticMatching(
            set(dataset.classes.things), set(dataset.classes.stuffs), pseudo.total, void=pseudo.void
        )
        maps_of(timed, [dataset[0]])  # kernels are chosen at the first frame
        timed.seconds, start = 0.0, time.perf_counter()
        loader = DataLoader(dataset, collate_fn=identity_collate)
        (root / "predictions").mkdir()
        visitors = [score_with(metric), save_to(root / "predictions", pseudo)]
        predict(timed, loader, pseudo, visitors, len(loader))
        metric.compute()
        total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    frame, own = total / settings.images, timed.seconds / settings.images
    return {"seconds": frame, "network": own, "share": own / frame, "peak_mib": peak}


def measure(settings: EvaluationSettings) -> int:
    """Print the numbers; 1 when the network's share is below the aim."""
    result = run(settings)
    height, width = settings.shape
    row = (
        f"{result['seconds']:.2f}",
        f"{result['network']:.2f}",
        f"{100 * result['share']:.1f} %",
        f"{result['peak_mib']:.0f}",
    )
    columns = ("wall s a frame", "of it the network", f"share (aim {100 * AIM:.0f} %)", "peak memory, MiB")
    print(f"{settings.images} streets of {height}x{width} pixels, one thread.\n")
    print(markdown_table([row], columns) + f"\n\n{machine_line()}")
    if settings.json:
        write_json(settings.json, {"machine": machine_line(), "result": result})
    return int(result["share"] < AIM)
