"""Panoptic quality against three oracles: literal pixel sets, torchmetrics and stored outputs."""

from __future__ import annotations

import copy
import os
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.detection import PanopticQuality

from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.overlap import overlap_rows, overlap_table
from cups.metrics.panoptic_quality import VOID_RULES
from tests.warm import warm_python

VOID = 255
STUFFS, THINGS = (0, 1, 2), (3, 4)
repeatable = settings(derandomize=True, deadline=None, max_examples=40)
seeds = st.integers(0, 10**6)


def metric(num_clusters: int = 5, **options: object) -> PanopticQualitySemanticMatching:
    return PanopticQualitySemanticMatching(THINGS, STUFFS, num_clusters, **options)


def scene(seed: int, num_clusters: int = 5, size: tuple[int, int] = (12, 16)) -> Tensor:
    """Draw some rectangles of random category and instance, void among them: (H, W, 2)."""
    rng = np.random.default_rng(seed)
    panoptic = np.zeros((*size, 2), dtype=np.int64)
    panoptic[..., 0] = rng.integers(0, min(3, num_clusters))
    for instance in range(1, 9):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in size)
        category = VOID if rng.random() < 0.15 else rng.integers(0, num_clusters)
        number = 0 if category == VOID or rng.random() < 0.2 else instance
        panoptic[top:bottom, left:right] = (category, number)
    return torch.from_numpy(panoptic)


def pair(seed: int, num_clusters: int = 5) -> tuple[Tensor, Tensor]:
    """Return a prediction that shares much with its target, and void of its own: (H, W, 2) each."""
    target, other = scene(seed), scene(seed + 1, num_clusters)
    pred = torch.roll(target, (seed % 3, seed % 2), dims=(0, 1))
    pred[..., 0][pred[..., 0] != VOID] %= num_clusters
    rows = slice(0, seed % 6)
    pred[rows] = other[rows]
    return pred, target


def pairs(seed: int, count: int, num_clusters: int = 5) -> tuple[Tensor, Tensor]:
    both = [pair(seed + 10 * index, num_clusters) for index in range(count)]
    return torch.stack([pred for pred, _ in both]), torch.stack([target for _, target in both])


def pixel_sets(panoptic: Tensor, mapping: Callable[[int], int]) -> dict[tuple[int, int], set[int]]:
    """Return {(class, instance): pixels}; stuff and void have instance 0."""
    segments = defaultdict(set)
    for pixel, (category, instance) in enumerate(panoptic.reshape(-1, 2).tolist()):
        label = VOID if category == VOID else mapping(category)
        segments[label, instance if label in THINGS else 0].add(pixel)
    return segments


def literal_image(preds: dict, targets: dict, rule: str) -> list[tuple[str, int, float]]:
    """Return ("tp"|"fp"|"fn", class, IoU) events of one image, as the papers define them."""
    nothing: set[int] = set()
    pred_void, target_void = preds.get((VOID, 0), nothing), targets.get((VOID, 0), nothing)
    crowds = {key for key in targets if key[0] in THINGS and key[1] == 0} if rule == "standard" else set()
    events, used = [], set()
    for target_key, target in targets.items():
        free = pred_void if rule == "upstream" else nothing
        if target_key[0] == VOID or target_key in crowds:
            continue
        for pred_key, pred in preds.items():
            if pred_key[0] == target_key[0]:
                union = (pred - target_void) | (target - free)
                iou = len(pred & target) / len(union) if union else 0.0
                if iou > 0.5:
                    events.append(("tp", target_key[0], iou))
                    used |= {("pred", pred_key), ("target", target_key)}
        if ("target", target_key) not in used and len(target & free) <= len(target) / 2:
            events.append(("fn", target_key[0], 0.0))
    for pred_key, pred in preds.items():
        excused = target_void | (targets[pred_key[0], 0] if (pred_key[0], 0) in crowds else nothing)
        if pred_key[0] != VOID and ("pred", pred_key) not in used and len(pred & excused) <= len(pred) / 2:
            events.append(("fp", pred_key[0], 0.0))
    return events


def literal_pq(preds: Tensor, targets: Tensor, assignment: list[int], rule: str) -> tuple[list[float], float]:
    """Return PQ per class and their mean over classes that occur."""
    events = []
    for pred, target in zip(preds, targets, strict=True):
        segments = pixel_sets(pred, assignment.__getitem__), pixel_sets(target, lambda label: label)
        events += literal_image(*segments, rule)
    per_class, occurring = [], []
    for label in range(5):
        of_class = [(kind, iou) for kind, category, iou in events if category == label]
        weight = sum(1.0 if kind == "tp" else 0.5 for kind, _ in of_class)
        per_class.append(sum(iou for _, iou in of_class) / weight if weight else 0.0)
        occurring += [per_class[-1]] if weight else []
    return per_class, float(np.mean(occurring)) if occurring else float("nan")


@repeatable
@given(seeds, st.sampled_from([2, 5, 8]), st.sampled_from(VOID_RULES))
def test_compute__equals_literal_implementation(seed: int, num_clusters: int, rule: str) -> None:
    preds, targets = pairs(seed, 3, num_clusters)
    ours = metric(num_clusters, void_rule=rule)
    ours.update(preds, targets)
    scores = ours.compute()
    per_class, mean = literal_pq(preds, targets, scores["assignment"].tolist(), rule)
    np.testing.assert_allclose(scores["pq_per_class"], per_class, atol=1e-12)
    np.testing.assert_allclose(scores["pq"], mean, atol=1e-12)


@settings(repeatable, max_examples=15)
@given(seeds)
def test_compute__upstream_equals_torchmetrics(seed: int) -> None:
    preds, targets = pairs(seed, 2)
    ours = metric(void_rule="upstream")
    ours.update(preds, targets)
    scores = ours.compute()
    mapped = preds.clone()
    mapped[..., 0] = torch.cat((scores["assignment"], torch.full((251,), VOID)))[preds[..., 0]]
    theirs = PanopticQuality(
        set(THINGS), set(STUFFS), allow_unknown_preds_category=True, return_per_class=True
    )
    theirs.update(
        mapped, targets
    )  # unknown categories, here 255, are void to it; its order is things, then stuff
    np.testing.assert_allclose(scores["pq_per_class"][[*THINGS, *STUFFS]], theirs.compute()[0], atol=1e-7)


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_compute__stored_upstream_outputs(parity: Path, case: str) -> None:
    with np.load(parity / "panoptic_quality.npz") as archive:
        stored = {
            key.split("/")[1]: archive[key] for key in archive.files if key.startswith(f"public_{case}/")
        }
    clusters = int(stored.pop("num_clusters"))
    split = {}
    if stored.pop("separate_things_stuff"):
        split["things_prototype"] = range(11, 19)
        split["stuffs_prototype"] = [*range(11), *range(19, clusters)]
    ours = PanopticQualitySemanticMatching(range(11, 19), range(11), clusters, void_rule="upstream", **split)
    ours.update(*(torch.from_numpy(stored.pop(key).astype(np.int64)) for key in ("prediction", "target")))
    scores = ours.compute()
    assert set(stored) <= set(scores)
    for key, expected in stored.items():
        np.testing.assert_allclose(scores[key], expected, atol=1e-6, err_msg=key)


def grid(*rows: str) -> Tensor:
    """Return (1, H, W, 2) from letters: . void, 012 stuff, ab of class 3, AB of class 4, cC their crowds."""
    codes = {".": (VOID, 0), "c": (3, 0), "a": (3, 1), "b": (3, 2), "C": (4, 0), "A": (4, 1), "B": (4, 2)}
    codes |= {str(stuff): (stuff, 0) for stuff in STUFFS}
    return torch.tensor([[[codes[letter] for letter in row] for row in rows]])


IDENTITY = {"things_prototype": THINGS, "stuffs_prototype": STUFFS}


def counts(pred: Tensor, target: Tensor, category: int, rule: str) -> tuple[int, int, int]:
    """Return TP, FP, FN of a class when clusters are the classes."""
    # A right frame of all classes fixes the matching to the identity and adds a true positive to each.
    frame = grid(*["0" * 99, "1" * 99, "2" * 99, "a" * 99, "B" * 99])
    ours = metric(void_rule=rule, **IDENTITY)
    ours.update(frame, frame)
    ours.update(pred, target)
    scores = ours.compute()
    assert scores["assignment"].tolist() == [0, 1, 2, 3, 4]
    names = ("true_positives", "false_positives", "false_negatives")
    tp, fp, fn = (int(scores[f"{name}_per_class"][category]) for name in names)
    return tp - 1, fp, fn


@pytest.mark.parametrize(
    ("pred", "target", "standard", "upstream"),
    [
        # An abstaining detector: 4 of 10 pixels right, the rest void. IoU 0.4, or 1.0 when void is free.
        ("aaaa......", "bbbbbbbbbb", (0, 1, 1), (1, 0, 0)),
        # All void: a miss, or nothing at all.
        ("..........", "bbbbbbbbbb", (0, 0, 1), (0, 0, 0)),
        # IoU of exactly one half is no match.
        ("aaaaa00000", "bbbbbbbbbb", (0, 1, 1), (0, 1, 1)),
        ("aaaaaa0000", "bbbbbbbbbb", (1, 0, 0), (1, 0, 0)),
        # Exactly half on target void still counts; more does not.
        ("aaaaaaaaaa", ".....00000", (0, 1, 0), (0, 1, 0)),
        ("aaaaaaaaaa", "......0000", (0, 0, 0), (0, 0, 0)),
        # Target void is cut from the union: 4 / (10 - 5 + 5 - 4).
        ("aaaaaaaaaa", ".....bbbb0", (1, 0, 0), (1, 0, 0)),
        # A crowd is neither matched nor missed; upstream takes it for an object.
        ("aaaaaaaaaa", "cccccccccc", (0, 0, 0), (1, 0, 0)),
        ("0000000000", "cccccccccc", (0, 0, 0), (0, 0, 1)),
        # Crowd and void together excuse a prediction, the crowd of another class does not.
        ("aaaaaaaaaa", "...ccc0000", (0, 0, 0), (0, 1, 1)),
        ("aaaaaaaaaa", "...CCC0000", (0, 1, 0), (0, 1, 0)),
        # A crowd is not cut from the union: 5 / 10 is no match.
        ("aaaaaaaaaa", "bbbbbccccc", (0, 1, 1), (0, 1, 2)),
    ],
)
def test_compute__void_and_crowd_by_hand(pred: str, target: str, standard: tuple, upstream: tuple) -> None:
    assert counts(grid(pred), grid(target), 3, "standard") == standard
    assert counts(grid(pred), grid(target), 3, "upstream") == upstream


def test_compute__stuff_clusters_of_one_class_are_one_segment() -> None:
    # Clusters 0 and 5 both become class 0: together IoU 1, apart 0.6 and a false positive.
    target = grid("0000000000")
    pred = target.clone()
    pred[0, 0, 6:, 0] = 5
    ours = metric(6)
    ours.update(pred, target)
    scores = ours.compute()
    assert scores["assignment"].tolist()[::5] == [0, 0]
    assert scores["pq_per_class"][0] == 1 and scores["false_positives_per_class"][0] == 0


def test_compute__thing_clusters_of_one_class_stay_apart() -> None:
    target = grid("aaaaabbbbb")
    pred = target.clone()
    pred[0, 0, 5:, 0] = 4
    ours = PanopticQualitySemanticMatching([3], [0], 5)
    ours.update(pred, target)
    scores = ours.compute()
    assert scores["assignment"].tolist()[3:] == [3, 3] or scores["assignment"].tolist()[3:] == [3, 0]
    ours = PanopticQualitySemanticMatching([3], [0], 5, things_prototype=[3, 4], stuffs_prototype=[0, 1, 2])
    ours.update(pred, target)
    assert ours.compute()["true_positives_per_class"].tolist() == [0, 2]


@repeatable
@given(seeds)
def test_compute__perfect_prediction_is_one(seed: int) -> None:
    target = scene(seed)[None]
    # Crowds cannot be found under the standard rule, so each becomes an object.
    crowd = torch.isin(target[..., 0], torch.tensor(THINGS)) & (target[..., 1] == 0)
    target[..., 1][crowd] = 99
    ours = metric(**IDENTITY)
    ours.update(target, target)
    for scores in ours.compute_all().values():
        if (target[..., 0] == VOID).all():
            assert torch.isnan(scores["pq"])
        else:
            assert scores["pq"] == scores["sq"] == scores["rq"] == scores["miou"] == scores["accuracy"] == 1


@repeatable
@given(seeds)
def test_compute__instance_and_cluster_numbers_do_not_matter(seed: int) -> None:
    preds, targets = pairs(seed, 2)
    rng = np.random.default_rng(seed)
    instances = torch.from_numpy(np.concatenate(([0], 1 + rng.permutation(200))))
    clusters = torch.from_numpy(np.concatenate((rng.permutation(5), np.full(251, VOID))))
    renamed = torch.stack((clusters[preds[..., 0]], instances[preds[..., 1]]), dim=-1)
    original, other = metric(), metric()
    original.update(preds, targets)
    other.update(renamed, targets)
    # Equal overlaps may be matched either way, so sums that every best matching shares are compared.
    one, two = original.compute(), other.compute()
    if torch.equal(one["assignment"], two["assignment"][clusters[:5]]):
        for key in ("pq", "sq", "rq", "miou", "accuracy", "pq_per_class"):
            np.testing.assert_allclose(one[key], two[key], atol=1e-12, err_msg=key)
    else:
        confusion = original._confusion(original._table()[0], original._table()[0][:, 2] % VOID)
        assert len(np.unique(confusion)) < confusion.size


@repeatable
@given(seeds, st.integers(1, 4))
def test_compute__bounds(seed: int, num_clusters: int) -> None:
    ours = metric(num_clusters)
    ours.update(*pairs(seed, 2, num_clusters))
    both = ours.compute_all()
    for scores in both.values():
        for key, value in scores.items():
            if value.is_floating_point():
                kept = value[~torch.isnan(value)]
                assert (kept >= 0).all() and (kept <= 1).all(), key
        np.testing.assert_allclose(scores["pq_per_class"], scores["sq_per_class"] * scores["rq_per_class"])
    assert both["standard"]["accuracy"].nan_to_num() <= both["upstream"]["accuracy"].nan_to_num(1)


@repeatable
@given(seeds)
def test_update__batches_and_merged_copies_equal_one_pass(seed: int) -> None:
    preds, targets = pairs(seed, 5)
    whole = metric()
    whole.update(preds, targets)
    first, second = metric(), metric()
    for index in (3, 0):
        first.update(preds[index : index + 1], targets[index : index + 1])
    second.update(preds[[4, 1, 2]], targets[[4, 1, 2]])
    first.merge_state(second)
    assert_same(first.compute(), whole.compute())


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert set(one) == set(two)
    for key, value in one.items():
        np.testing.assert_allclose(value, two[key], atol=1e-12, err_msg=key)


def test_update__repeated_image_counts_once() -> None:
    preds, targets = pairs(5, 3)
    once, padded = metric(), metric()
    once.update(preds, targets)
    padded.update(preds, targets, image_ids=[7, 0, 4])
    padded.update(preds[:2], targets[:2], image_ids=torch.tensor([7, 0]))
    assert_same(padded.compute(), once.compute())
    once.update(preds[:2], targets[:2])
    assert (
        once.compute()["true_positives_per_class"].sum() != padded.compute()["true_positives_per_class"].sum()
    )


@pytest.mark.parametrize("shares", [(5, 1), (6, 0)])
def test_compute__gathers_processes(shares: tuple[int, int]) -> None:
    """Two processes, simulated by the gathering function; the second may have seen nothing."""
    preds, targets = pairs(3, 6)
    ranks = [metric(), metric()]
    bounds = np.cumsum((0, *shares))
    for rank, start, stop in zip(ranks, bounds[:-1], bounds[1:], strict=True):
        if stop > start:
            rank.update(preds[start:stop], targets[start:stop], image_ids=range(start, stop))
    if not shares[1]:
        ranks[1]._append(np.empty((0, 5)), np.empty((0, 2)))

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        name = "rows" if state.shape[1] == 5 else "header"
        return [state, torch.cat(getattr(ranks[1], name))]

    ranks[0].dist_sync_fn = gather
    ranks[0].distributed_available_fn = lambda: True
    whole = metric()
    whole.update(preds, targets)
    assert_same(ranks[0].compute(), whole.compute())
    assert isinstance(ranks[0].rows, list), "the gathered state must not stay"


PROCESS = """
import sys, torch
from cups.metrics import PanopticQualitySemanticMatching
from cups.metrics.overlap import overlap_rows, overlap_table
rank, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
preds, targets = torch.load(f"{folder}/maps.pt")
# First both have a share, and image 2 is padding of the second; then one process has nothing.
for name, shares in {"split": ((0, 1, 2), (3, 4, 2)), "lonely": ((0, 1, 2, 3, 4), ())}.items():
    metric = PanopticQualitySemanticMatching((3, 4), (0, 1, 2), 5)
    for image in shares[rank]:
        metric.update(preds[image][None], targets[image][None], image_ids=[image])
    both = metric.compute_all()
    assert torch.equal(both["standard"]["pq_per_class"], metric.compute()["pq_per_class"])
    torch.save(both, f"{folder}/{name}{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_compute_all__real_processes(tmp_path: Path) -> None:
    preds, targets = pairs(8, 5)
    torch.save((preds, targets), tmp_path / "maps.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    ranks = [
        subprocess.Popen([warm_python(), "-c", PROCESS, str(rank), str(tmp_path)], env=environment)
        for rank in (0, 1)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    whole = metric()
    whole.update(preds, targets)
    for name in ("split0", "split1", "lonely0", "lonely1"):
        for rule, scores in torch.load(tmp_path / f"{name}.pt").items():
            assert_same(scores, whole.compute_all()[rule])


def test_compute_all__agrees_with_compute() -> None:
    preds, targets = pairs(11, 3)
    for rule in VOID_RULES:
        ours = metric(void_rule=rule)
        ours.update(preds, targets)
        assert_same(ours.compute(), ours.compute_all()[rule])
    both = ours.compute_all(assignment=np.arange(5))
    assert both["standard"]["pq"] < both["upstream"]["pq"]


def test_compute_all__class_that_does_not_occur() -> None:
    """Two clusters share class 3, class 4 is absent: only upstream's matching gives it one of them."""
    target, pred = grid("aaaabbbb"), grid("aaaaBBBB")
    ours = metric(5, things_prototype=[3, 4], stuffs_prototype=[0, 1, 2])
    ours.update(pred, target)
    scores = ours.compute_all()
    assert scores["standard"]["assignment"][3:].tolist() == [3, 3] and scores["standard"]["pq"] == 1
    assert scores["upstream"]["assignment"][3:].tolist() == [3, 4]
    assert scores["upstream"]["pq_per_class"][3:].tolist() == pytest.approx([2 / 3, 0])


def test_compute__fewer_clusters_than_classes() -> None:
    target = grid("0011aabbAA")
    ours = metric(1)
    ours.update(torch.zeros_like(target), target)
    scores = ours.compute()
    assert scores["assignment"].numel() == 1
    assert scores["false_negatives_per_class"].sum() + scores["true_positives_per_class"].sum() == 5
    assert scores["pq"] < 0.2


def test_compute__classes_mask_and_class_ids_with_gaps() -> None:
    target = torch.tensor([[[(7, 0), (7, 0), (20, 1), (20, 2)]]])
    pred = torch.tensor([[[(1, 0), (1, 0), (0, 1), (0, 1)]]])
    ours = PanopticQualitySemanticMatching([20], [7], 2)
    ours.update(pred, target)
    assert ours.compute()["assignment"].tolist() == [20, 7]
    assert ours.compute()["pq"] == 0.5
    masked = PanopticQualitySemanticMatching([20], [7], 2, classes_mask=[True, False])
    masked.update(pred, target)
    assert masked.compute()["pq"] == 1 and torch.isnan(masked.compute()["pq_things"])


def test_update__more_clusters_than_eight_bits() -> None:
    target = grid("000111aab.")
    pred = target.clone()
    pred[..., 0] = torch.where(pred[..., 0] == VOID, 65535, pred[..., 0] + 290)
    target[..., 0][target[..., 0] == VOID] = 65535
    ours = metric(300, void=65535)
    ours.update(pred, target)
    assert ours.compute()["pq"] == 1
    with pytest.raises(ValueError, match="set void= to an id above"):
        metric(300)


def test_state__is_small_and_survives_copy_and_reset() -> None:
    preds, targets = pairs(2, 4)
    ours = metric()
    ours.update(preds, targets)
    assert ours.state_bytes < 4 * 2000
    other = copy.deepcopy(ours)
    assert_same(other.compute(), ours.compute())
    ours.reset()
    assert ours.state_bytes == 0 and other.state_bytes > 0
    with pytest.raises(ValueError, match="no image"), pytest.warns(UserWarning):
        ours.compute()


FINE = torch.zeros((1, 2, 2, 2), dtype=torch.int64)


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (FINE[0], FINE[0], "preds must be"),
        (FINE[..., :1], FINE, "preds must be"),
        (FINE.float(), FINE, "integer ids, not torch.float32"),
        (FINE, FINE.bool(), "target must hold integer ids"),
        (FINE, FINE.expand(2, -1, -1, -1), "differ in shape"),
        (FINE[:0], FINE[:0], "no pixels"),
        (FINE + 5, FINE, r"category 5, neither a cluster \(0..4\) nor void"),
        (FINE, FINE + 6, "category 6, neither in things or stuffs nor void"),
        (FINE - 1, FINE, "preds? ids must be in"),
    ],
)
def test_update__bad_input(preds: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric().update(preds, target)


def test_update__bad_image_ids() -> None:
    for ids in ([1, 2], [-1]):
        with pytest.raises(ValueError, match="image_ids must be 1 integers"):
            metric().update(FINE, FINE, image_ids=ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"void_rule": "lenient"}, "void rule 'lenient'"),
        ({"num_clusters": 0}, "num_clusters is 0"),
        ({"things_prototype": [3]}, "both"),
        ({"things_prototype": [3], "stuffs_prototype": [0, 1]}, "each cluster 0..4 once"),
        ({"things_prototype": [3, 2, 4], "stuffs_prototype": [0, 1, 2]}, "each cluster 0..4 once"),
        ({"classes_mask": [True]}, "must hold 5 values"),
        ({"things": [0]}, r"classes \[0\] are in both"),
        ({"things": [VOID]}, "other than void"),
    ],
)
def test_init__bad_argument(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PanopticQualitySemanticMatching(**({"things": THINGS, "stuffs": STUFFS, "num_clusters": 5} | options))


def test_compute_all__given_assignment_and_rows_instead_of_maps() -> None:
    """Cluster 0 covers class 0 and cluster 1 class 1; a given matching swaps the names, so nothing fits."""
    pred = torch.tensor([[[0, 0], [0, 0], [1, 1], [1, 1]]])[None]
    by_maps = PanopticQualitySemanticMatching((1,), (0,), 2)
    by_maps.update(pred, pred)
    by_rows = PanopticQualitySemanticMatching((1,), (0,), 2)
    by_rows.update_rows(overlap_rows(overlap_table(pred[0].numpy(), pred[0].numpy())))
    assert by_rows.compute_all()["standard"]["pq"] == by_maps.compute_all()["standard"]["pq"] == 1
    swapped = by_rows.compute_all(np.array([1, 0]))["standard"]
    assert swapped["pq"] == 0 and swapped["assignment"].tolist() == [1, 0]
    with pytest.raises(ValueError, match="category 5"):
        by_rows.update_rows(np.array([[5, 0, 0, 0, 3]]))
