"""Stage 2's module: optimiser, copy-paste sources, determinism of the batch augmentation."""

from __future__ import annotations

from itertools import combinations, product
from math import isnan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cups.augmentation import BatchAugmentation, CopyPaste, RandomCrop, ResolutionJitter
from cups.builders.stage2 import optimizer_settings
from cups.config import build_config
from cups.errors import UserError
from cups.pl_model_pseudo import PseudoLabelModule, SelfPaste, new_objects
from cups.structures import Sample, ThingStuffSplit
from cups.training.module import PanopticModule


def _masks(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    masks = torch.zeros((len(boxes), 32, 64), dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def _sample(name: str = "frame") -> Sample:
    masks = _masks((4, 4, 20, 20))
    sem_seg = torch.ones(32, 64, dtype=torch.int64)
    sem_seg[masks[0]] = 0
    return Sample(
        torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0)),
        sem_seg,
        masks,
        torch.tensor([1]),
        name,
    )


class _Network(nn.Module):
    """Stands in for the panoptic network: one loss, and one confident object where nothing is labelled."""

    def __init__(self, loss: float = 1.0, diverges: bool = False) -> None:
        super().__init__()
        self.diverges = diverges
        self.weight = nn.Parameter(torch.tensor(loss))
        self.inputs: list[Any] = []
        self.inferences = 0

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        assert self.training
        self.inputs.append(batch)
        if self.diverges:
            raise FloatingPointError("Predicted boxes or scores contain Inf/NaN. Training has diverged.")
        return {"loss_mask": self.weight * 2, "loss_sem_seg": self.weight}

    def find_objects(self, batch: list[dict[str, Any]], confidence: float) -> list[Any]:
        assert not self.training and confidence == 0.75
        self.inferences += 1
        found = SimpleNamespace(pred_masks=_masks((22, 30, 31, 60)), pred_classes=torch.tensor([0]))
        return [found for _ in batch]


def _module(network: nn.Module, self_paste_after: int = 500, **augmentation: Any) -> PseudoLabelModule:
    split = ThingStuffSplit((5, 3), (0, 1))
    module = PseudoLabelModule(
        network,
        split,
        optimizer_settings(build_config()),
        BatchAugmentation(**augmentation),
        SelfPaste(after=self_paste_after, confidence=0.75),
    )
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=0, global_rank=0, accumulate_grad_batches=1, default_root_dir="unset"
    )
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    return module


def test_new_objects__keeps_finds_beside_the_labels() -> None:
    sample = _sample()
    found = SimpleNamespace(
        # on the labelled object; empty; good
        pred_masks=_masks((4, 4, 20, 21), (0, 0, 0, 0), (22, 30, 31, 60)),
        pred_classes=torch.tensor([1, 1, 0]),
    )
    kept = new_objects(found, sample)
    assert kept.classes.tolist() == [0]
    assert torch.equal(kept.masks, _masks((22, 30, 31, 60)))
    assert torch.equal(kept.image, sample.image)


def test_augment__same_step_same_result_other_step_other_result() -> None:
    module = _module(_Network(), copy_paste=CopyPaste(8, min_side=4))
    batch = [_sample(), _sample()]
    first, again = module.augment(batch, 0), module.augment(batch, 0)
    assert all(
        torch.equal(a.image, b.image) and torch.equal(a.masks, b.masks)
        for a, b in zip(first, again, strict=True)
    )
    module.trainer.global_step = 1  # type: ignore[misc]
    assert not torch.equal(module.augment(batch, 0)[0].image, first[0].image)
    assert torch.equal(batch[0].image, _sample().image), (
        "the clean batch is pasted from again: it must not change"
    )


def test_augment__a_step_shares_sizes_and_nothing_else() -> None:
    """Each process and micro-batch drew its own resolution: accumulation was not what more GPUs are."""
    sizes = tuple((32 + 8 * i, 64 + 16 * i) for i in range(8))
    module = _module(
        _Network(),
        copy_paste=CopyPaste(8, min_side=4),
        random_crop=RandomCrop((0.5, 1.0)),
        resolution_jitter=ResolutionJitter(sizes),
    )
    seen = set()
    for step in range(6):
        module.trainer.global_step = step  # type: ignore[misc]
        drawn = []
        for rank, micro_batch in product(range(2), range(3)):
            module.trainer.global_rank = rank  # type: ignore[misc]
            drawn.append(module.augment([_sample()], micro_batch)[0].image)
        assert len({image.shape for image in drawn}) == 1
        assert not any(torch.equal(one, two) for one, two in combinations(drawn, 2))
        seen.add(drawn[0].shape)
    assert len(seen) > 1


def test_training_step__infers_only_when_the_next_step_pastes_own_finds() -> None:
    """Upstream runs a second, full inference after every step, used or not."""
    network = _Network()
    module = _module(network, copy_paste=CopyPaste(8, min_side=4), self_paste_after=2)
    for step in range(4):
        module.trainer.global_step = step  # type: ignore[misc]
        module.training_step([_sample()], step)
    assert network.inferences == 3  # after steps 1, 2 and 3
    pasted = network.inputs[2][0]["instances"].gt_classes.tolist()
    assert 0 in pasted, "step 2 pastes the network's own find, class 0"
    off = _Network()
    _module(off, self_paste_after=0).training_step([_sample()], 0)
    assert off.inferences == 0


def test_training_step__a_loss_that_is_not_finite_stops_and_keeps_the_batch(tmp_path: Path) -> None:
    module = _module(_Network(loss=float("nan")))
    module.trainer.default_root_dir = str(tmp_path)  # type: ignore[misc]
    with pytest.raises(UserError, match=r"bad_batch_step=000000\.pt: .* not finite .*berlin_1.*lower `lr`"):
        module.training_step([_sample("berlin_1")], 0)
    kept = torch.load(tmp_path / "bad_batch_step=000000.pt", weights_only=True)
    assert kept["names"] == ["berlin_1"] and kept["step"] == 0
    assert torch.equal(kept["images"][0], _sample().image) and torch.equal(kept["masks"][0], _sample().masks)
    assert torch.equal(kept["sem_seg"][0], _sample().sem_seg) and kept["classes"][0].tolist() == [1]
    assert set(kept["losses"]) == {"loss_mask", "loss_sem_seg"} and isnan(kept["losses"]["loss_mask"])


def test_training_step__proposals_that_are_not_finite_stop_it_too(tmp_path: Path) -> None:
    """Detectron2 raises of its own accord: no batch was kept, and other processes waited for this one."""
    module = _module(_Network(diverges=True))
    module.trainer.default_root_dir = str(tmp_path)  # type: ignore[misc]
    with pytest.raises(UserError, match=r"bad_batch_step=000000\.pt: .*proposals nan"):
        module.training_step([_sample()], 0)
    assert (tmp_path / "bad_batch_step=000000.pt").is_file()


def _saved(module: PanopticModule, **changes: Any) -> dict[str, Any]:
    """Return what the module would store, with some of its hyper-parameters changed."""
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    checkpoint["hyper_parameters"] |= changes
    return checkpoint


def test_on_load_checkpoint__another_split_is_refused() -> None:
    """The sizes fit, the pseudo-classes behind the outputs do not: the run would go on with others."""
    module = _module(_Network())
    module.on_load_checkpoint(_saved(module))
    module.on_load_checkpoint({**_saved(module), "hyper_parameters": {}})
    with pytest.raises(UserError, match=r"other thing pseudo-classes than the labels or MODEL\.CHECKPOINT"):
        module.on_load_checkpoint(_saved(module, thing_pseudo_classes=[3, 5]))


def test_on_load_checkpoint__another_network_is_refused() -> None:
    """Other MODEL.OVERRIDES ended in a traceback."""
    module = _module(_Network())
    saved = _saved(module)
    saved["state_dict"] = {"model.weight": torch.zeros(2)}
    with pytest.raises(UserError, match=r"another network \(1 of another shape, .*give the keys of MODEL"):
        module.on_load_checkpoint(saved)


def _weighted(weights: list[float] | None) -> PseudoLabelModule:
    network = _Network()
    network.sem_seg_head = nn.Module()
    values = None if weights is None else torch.tensor(weights)
    network.sem_seg_head.register_buffer("class_weights", values, persistent=False)
    module = _module(network)
    module.description = {"model": {"model_config": "a.yaml"}}
    return module


@pytest.mark.parametrize(
    ("then", "now", "after"),
    [
        ([0.5, 1.25, 1.25], [0.75, 1.0, 1.25], [0.5, 1.25, 1.25]),
        ([0.5, 1.25, 1.25], None, None),
        (None, [0.75, 1.0, 1.25], [0.75, 1.0, 1.25]),
    ],
)
def test_on_load_checkpoint__class_weights_are_those_of_the_run(
    then: list[float] | None,
    now: list[float] | None,
    after: list[float] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Labels made anew moved them in the middle of a run. Settings still switch them, with a warning."""
    saved = _saved(_weighted(then))
    assert saved["hyper_parameters"]["model"] == {"model_config": "a.yaml", "class_weights": then}
    resumed = _weighted(now)
    resumed.on_load_checkpoint(saved)
    assert _saved(resumed)["hyper_parameters"]["model"]["class_weights"] == after
    assert ("its own class weights hold" in caplog.text) == (None not in (then, now))


@pytest.mark.parametrize(
    ("then", "now", "after"), [(True, False, True), (None, False, None), (False, False, False)]
)
def test_on_load_checkpoint__ground_truth_of_earlier_labels_is_remembered(
    then: bool | None, now: bool, after: bool | None
) -> None:
    """Resumed on labels without ground truth, a run once begun on it counted as free of it."""
    module = _module(_Network())
    module.description = {"provenance": {"uses_ground_truth": now, "code_version": "1"}}
    module.on_load_checkpoint(_saved(module, provenance={"uses_ground_truth": then}))
    stored = _saved(module)["hyper_parameters"]["provenance"]
    assert stored == {"uses_ground_truth": after, "code_version": "1"}
