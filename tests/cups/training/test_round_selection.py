"""Choosing a round: the label-free criterion, the files that are kept, what provenance says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cups.model.tta import Views
from cups.ops.panoptic_map import PanopticMap
from cups.structures import LoadedImage, PseudoClasses
from cups.training.round_selection import Consistency, RoundCheckpoints, ValidationQuality, with_choice


class _Scores:
    """A criterion with known values."""

    def __init__(self, values: list[float], name: str = "consistency") -> None:
        self.values = iter(values)
        self.name = name
        self.uses_ground_truth = name == "val"
        self.memory: list[int] = [1, 2]

    def __call__(self, model: nn.Module) -> float:
        return next(self.values)

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self.memory}

    def load_state_dict(self, state: Any) -> None:
        self.memory = state["memory"]


class _Trainer:
    """Saves a checkpoint that tells its step."""

    is_global_zero = True

    def __init__(self) -> None:
        self.global_step = 0
        self.saved: list[str] = []

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.saved.append(path.name)
        path.parent.mkdir(exist_ok=True)
        content = {
            "state_dict": {"model.weight": torch.tensor([float(self.global_step)])},
            "hyper_parameters": {"provenance": {"uses_ground_truth": False, "code_version": "1"}},
            "global_step": self.global_step,
            "optimizer_states": [torch.ones(3)],
        }
        torch.save(content, path)


def _module() -> Any:
    return SimpleNamespace(model=nn.Linear(1, 1), log=lambda *_, **__: None)


def _train(
    callback: RoundCheckpoints, trainer: _Trainer, first: int, last: int, micro_batches: int = 2
) -> None:
    callback.on_train_start(trainer, _module())  # type: ignore[arg-type]
    for step in range(first, last):
        for micro_batch in range(micro_batches):
            # The step counts up after its last micro-batch.
            trainer.global_step = step + (micro_batch == micro_batches - 1)
            callback.on_train_batch_end(trainer, _module())  # type: ignore[arg-type]


def test_rounds__each_is_kept_once_and_the_best_linked_with_its_reason(tmp_path: Path) -> None:
    trainer, folder = _Trainer(), tmp_path / "checkpoints"
    callback = RoundCheckpoints(folder, 2, _Scores([0.2, 0.3, 0.5, 0.4]))
    _train(callback, trainer, 0, 7)
    assert trainer.saved == ["round_1.ckpt", "round_2.ckpt", "round_3.ckpt"]
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert best["global_step"] == 4 and best["state_dict"]["model.weight"] == 4.0
    assert "optimizer_states" not in best
    provenance = best["hyper_parameters"]["provenance"]
    assert provenance["code_version"] == "1" and provenance["uses_ground_truth"] is False
    assert provenance["checkpoint_choice"] == {
        "criterion": "consistency",
        "round": 2,
        "values": {"before": 0.2, "round_1": 0.3, "round_2": 0.5, "round_3": 0.4},
        "uses_ground_truth": False,
    }


def test_rounds__a_choice_by_ground_truth_is_told(tmp_path: Path) -> None:
    callback = RoundCheckpoints(tmp_path, 1, _Scores([0.0, 0.9, 0.1], "val"))
    _train(callback, _Trainer(), 0, 2)
    provenance = torch.load(tmp_path / "best.ckpt", weights_only=True)["hyper_parameters"]["provenance"]
    assert provenance["uses_ground_truth"] is True
    assert provenance["checkpoint_choice"]["round"] == 1
    unknown = with_choice({}, {"uses_ground_truth": False})
    assert unknown["uses_ground_truth"] is None, "a label-free choice does not clear unknown labels"


def test_rounds__without_a_criterion_the_last(tmp_path: Path) -> None:
    callback = RoundCheckpoints(tmp_path, 1, None)
    _train(callback, _Trainer(), 0, 3)
    assert callback.choice() == {"criterion": "last", "round": 3, "uses_ground_truth": False}


def test_rounds__resumed_run_knows_the_rounds_before(tmp_path: Path) -> None:
    first = RoundCheckpoints(tmp_path, 2, _Scores([0.2, 0.9]))
    _train(first, _Trainer(), 0, 3)
    criterion = _Scores([0.4])
    criterion.memory = []
    resumed = RoundCheckpoints(tmp_path, 2, criterion)
    resumed.load_state_dict(first.state_dict())
    assert criterion.memory == [1, 2]
    trainer = _Trainer()
    _train(resumed, trainer, 3, 4)
    assert trainer.saved == ["round_2.ckpt"]
    assert resumed.values == [0.2, 0.9, 0.4] and resumed.best == 1


SIZE = (32, 64)
PSEUDO = PseudoClasses(things=1, stuffs=2)


class _Network(nn.Module):
    """Stands in for a panoptic network of stuff 0, 1 and thing 2: `plain` alone, `views` in the wrapper."""

    combine_instances_score_thresh = 0.5

    def __init__(self, plain: torch.Tensor, views: torch.Tensor) -> None:
        super().__init__()
        self.plain, self.views = plain, views

    def forward(self, batch: Any) -> Any:
        return [_output(self.plain)]


def _output(categories: torch.Tensor) -> dict[str, Any]:
    """Panoptic output of a map with 1 = stuff 0, 2 = stuff 1, 3 = thing 2, 0 = void."""
    found = [value for value in torch.unique(categories).tolist() if value > 0]
    ids = torch.zeros(4, dtype=torch.int64)
    ids[found] = torch.arange(1, len(found) + 1)
    segments = [
        {"id": int(ids[value]), "isthing": value == 3, "category_id": 0 if value == 3 else value}
        for value in found
    ]
    return {"panoptic_seg": (ids[categories], segments)}


def _halves(left: int, right: int, at: int = 32) -> torch.Tensor:
    ids = torch.full(SIZE, left)
    ids[:, at:] = right
    return ids


@pytest.fixture
def consistency(monkeypatch: pytest.MonkeyPatch) -> Consistency:
    monkeypatch.setattr(
        "cups.training.round_selection.PanopticFPNWithTTA",
        lambda network, *_: lambda _: [_output(network.views)],
    )
    frames: Any = [LoadedImage(torch.zeros(3, *SIZE), "frame")]
    return Consistency(frames, PSEUDO, Views((0.5, 1.0), flip=True))


def test_consistency__agreement_of_segments(consistency: Consistency) -> None:
    same = _halves(1, 2)
    assert consistency(_Network(same, same)) == pytest.approx(1.0)
    # Stuff 0: 24 of 32 columns shared; stuff 1: 32 of 40. Pseudo-classes are matched with themselves.
    assert consistency(_Network(_halves(1, 2, 24), same)) == pytest.approx((24 / 32 + 32 / 40) / 2)
    assert consistency(_Network(_halves(2, 1), same)) == 0.0


def test_consistency__a_class_that_dies_out_counts_as_zero(consistency: Consistency) -> None:
    """A network that calls everything road agrees with itself, and must not win."""
    rich, collapsed = _halves(1, 3), _halves(1, 1)
    assert consistency(_Network(rich, rich)) == pytest.approx(1.0)
    assert consistency(_Network(collapsed, collapsed)) == pytest.approx(0.5)
    again = Consistency(consistency.frames, PSEUDO, Views((0.5, 1.0), flip=True))
    again.load_state_dict(consistency.state_dict())
    assert again(_Network(collapsed, collapsed)) == pytest.approx(0.5)


def test_consistency__nothing_found_is_zero(consistency: Consistency) -> None:
    assert consistency(_Network(_halves(0, 0), _halves(0, 0))) == 0.0


def test_validation_quality__is_the_metric_and_says_so() -> None:
    class Metric:
        void = 255

        def __init__(self) -> None:
            self.updates = 0

        def reset(self) -> None:
            self.updates = 0

        def update(self, pred: Any, target: Any, **_: Any) -> None:
            self.updates += 1

        def compute(self) -> dict[str, torch.Tensor]:
            return {"pq": torch.tensor(self.updates / 4)}

    class Network(nn.Module):
        def forward(self, batch: Any) -> Any:
            return [{**_output(_halves(1, 2)), "sem_seg": torch.zeros(3, *SIZE)} for _ in batch]

    frame = LoadedImage(torch.zeros(3, *SIZE), "frame", PanopticMap.from_pairs(np.zeros((*SIZE, 2), int)))
    metric: Any = Metric()
    criterion = ValidationQuality([[frame, frame], [frame]], metric, PSEUDO)
    assert criterion.uses_ground_truth
    assert criterion(Network()) == 0.75
    assert criterion(Network()) == 0.75, "every round is scored from zero"
