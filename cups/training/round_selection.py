"""Which round of a self-training is kept: its checkpoints, and criteria to choose by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

from cups.evaluation.predict import predict, score_with
from cups.io.checkpoint import read_file, write_file
from cups.io.provenance import any_ground_truth
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.overlap import overlap_rows, overlap_table
from cups.metrics.segments import PanopticCounts, panoptic_counts, segment_table
from cups.model.inputs import panoptic_map_from_output
from cups.model.tta import PanopticFPNWithTTA, Views
from cups.structures import LoadedImage, PseudoClasses

log = logging.getLogger(__name__)

BEST_KEYS = ("state_dict", "hyper_parameters", "global_step", "epoch", "pytorch-lightning_version")
"""What `best.ckpt` takes over of a round's checkpoint: no optimiser, as nothing is resumed from it."""


class Criterion(Protocol):
    """Scores a network; higher is better. Equal networks get equal scores."""

    name: str
    uses_ground_truth: bool

    def __call__(self, model: nn.Module) -> float: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, eq=False)
class ViewComparison:
    """What a network predicts on images, and how far it says the same from other views.

    Attributes:
        counts: of the panoptic quality between the two, by pseudo-class.
        void: share of pixels without a pseudo-class, 0-1.
        objects: things per image.
        first: the network's output of the first image.
    """

    counts: PanopticCounts
    void: float
    objects: float
    first: dict[str, Any]

    @property
    def agreement(self) -> float:
        """Mean panoptic quality, 0-1, of the pseudo-classes that were found; 0 if none was."""
        found = self.counts.weight > 0
        return float(self.counts.quality()[0][found].mean()) if found.any() else 0.0


class Consistency:
    """How far a network's prediction survives a change of view; reads images only.

    The panoptic quality between the prediction on the frame and that by test-time augmentation with the same
    weights, pseudo-classes matched with themselves. What a network has understood it sees again at another
    size and in the mirror; what it guesses, it does not. Averaging views also makes predictions better, so
    the agreement estimates how close a single view is to a better one. Unlike the agreement with the teacher
    it compares no network with its own average, which grows by itself as training slows down.

    A network that calls everything road is consistent as well. Therefore the mean is over the pseudo-classes
    that the first network scored (the one training starts from) finds in the frames: a class that dies out
    counts as 0.

    Args:
        frames: none of them trained on.
        pseudo: the network's pseudo-classes.
        scales, flip: views, see `PanopticFPNWithTTA`. The score threshold is the network's own.
    """

    name = "consistency"
    uses_ground_truth = False

    def __init__(
        self,
        frames: Dataset[LoadedImage],
        pseudo: PseudoClasses,
        views: Views,
    ) -> None:
        self.frames = frames
        self.pseudo = pseudo
        self.views = views
        self.categories: list[int] = []

    def __call__(self, model: nn.Module) -> float:
        """Return the mean panoptic quality, 0-1."""
        counts = self.compare(model).counts
        if not self.categories:
            self.categories = np.flatnonzero(counts.weight).tolist()
        return float(counts.quality()[0][self.categories].mean()) if self.categories else 0.0

    @torch.no_grad()
    def compare(self, model: Any) -> ViewComparison:
        """Predict every frame from one view and from many."""
        views = PanopticFPNWithTTA(model, self.views, model.combine_instances_score_thresh)
        rows, image, void, objects = [], [], [], []
        first: dict[str, Any] = {}
        for index in range(len(self.frames)):  # type: ignore[arg-type]
            frame = [{"image": self.frames[index].image}]
            plain, averaged = model(frame)[0], views(frame)[0]
            first = first or plain
            one, many = (panoptic_map_from_output(output, self.pseudo) for output in (plain, averaged))
            void.append(one.areas[one.category == self.pseudo.void].sum() / one.ids.size)
            objects.append(int(one.instance.max()))
            rows.append(overlap_rows(overlap_table(one, many)))
            image.append(np.full(len(rows[-1]), index))
        joined = np.concatenate(rows)
        categories = self.pseudo.total
        pred, target = (np.where(joined[:, i] < categories, joined[:, i], -1) for i in (0, 2))
        table = segment_table(joined, np.concatenate(image), pred, target, self.pseudo.is_thing)
        counts = panoptic_counts(table, categories)
        return ViewComparison(counts, float(np.mean(void)), float(np.mean(objects)), first)

    def state_dict(self) -> dict[str, Any]:
        """Return the pseudo-classes that count."""
        return {"categories": self.categories}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the pseudo-classes that count."""
        self.categories = list(state["categories"])


class ValidationQuality:
    """Panoptic quality on validation frames with ground truth: an upper bound, not a label-free choice."""

    name = "val"
    uses_ground_truth = True

    def __init__(
        self,
        batches: Sequence[list[LoadedImage]],
        metric: PanopticQualitySemanticMatching,
        pseudo: PseudoClasses,
    ) -> None:
        self.batches, self.metric, self.pseudo = batches, metric, pseudo

    def __call__(self, model: nn.Module) -> float:
        """Return PQ, 0-1."""
        self.metric.reset()
        predict(model, self.batches, self.pseudo, [score_with(self.metric)], len(self.batches))
        value = float(self.metric.compute()["pq"])
        self.metric.reset()
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: ground truth needs no memory."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over nothing."""


class RoundCheckpoints(Callback):
    """Keeps `round_1.ckpt`, ... and the best of them as `best.ckpt`.

    `best.ckpt` is a file of its own, not a link: its provenance says how it was chosen, and that it uses
    ground truth when the choice did. Every process scores the network itself, so none has to wait.

    Args:
        folder: of the checkpoints.
        round_steps: optimisation steps of a round.
        criterion: of the student; None takes the last round.
    """

    def __init__(self, folder: Path, round_steps: int, criterion: Criterion | None = None) -> None:
        self.folder = folder
        self.round_steps = round_steps
        self.criterion = criterion
        self.values: list[float] = []
        """Scores of the network that training starts from, and of each finished round."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"values": self.values, "criterion": self.criterion.state_dict() if self.criterion else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of an interrupted run."""
        self.values = list(state_dict["values"])
        if self.criterion is not None:
            self.criterion.load_state_dict(state_dict["criterion"])

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Score the network that training starts from."""
        if not self.values:
            self.values.append(self._score(module.model))
            log.info("before self-training: %s", self._told(0))

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Score and save the network once at the end of each round."""
        finished, rest = divmod(trainer.global_step, self.round_steps)
        if rest or finished != len(self.values):
            return
        self.values.append(self._score(module.model))
        log.info("round %d: %s", finished, self._told(finished))
        if self.criterion is not None:
            module.log(f"self_training/{self.criterion.name}", self.values[-1])
        trainer.save_checkpoint(self._round(finished), weights_only=False)
        if trainer.is_global_zero:
            self._write_best()

    @property
    def best(self) -> int:
        """The best finished round, from 1; of equal ones the last."""
        return max(range(1, len(self.values)), key=lambda number: (self.values[number], number))

    def _score(self, model: nn.Module) -> float:
        if self.criterion is None:
            return 0.0
        training = model.training
        value = self.criterion(model.eval())
        model.train(training)
        return value

    def _told(self, number: int) -> str:
        return f"{self.criterion.name} {self.values[number]:.4f}" if self.criterion else "done"

    def _round(self, number: int) -> Path:
        return self.folder / f"round_{number}.ckpt"

    def _write_best(self) -> None:
        stored = read_file(self._round(self.best))
        content = {key: stored[key] for key in BEST_KEYS if key in stored}
        parameters = content["hyper_parameters"]
        parameters["provenance"] = with_choice(parameters.get("provenance", {}), self.choice())
        write_file(self.folder / "best.ckpt", content)

    def choice(self) -> dict[str, Any]:
        """Return how the best round was chosen, for provenance."""
        if self.criterion is None:
            return {"criterion": "last", "round": self.best, "uses_ground_truth": False}
        names = ["before", *(f"round_{number}" for number in range(1, len(self.values)))]
        return {
            "criterion": self.criterion.name,
            "round": self.best,
            "values": dict(zip(names, self.values, strict=True)),
            "uses_ground_truth": self.criterion.uses_ground_truth,
        }


def with_choice(provenance: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    """Return provenance with the choice of a checkpoint; one made by ground truth makes the whole use it."""
    facts = [provenance.get("uses_ground_truth"), choice["uses_ground_truth"]]
    return {**provenance, "uses_ground_truth": any_ground_truth(facts), "checkpoint_choice": dict(choice)}
