"""Every checkpoint format, and files that are damaged, foreign or hostile."""

from __future__ import annotations

import builtins
import logging
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from yacs.config import CfgNode

from cups.errors import UserError
from cups.io.checkpoint import (
    class_counts,
    load_checkpoint,
    load_into,
    load_state,
    load_tensors,
    read_file,
    write_file,
)
from cups.io.files import file_sha256
from cups.model import panoptic_cascade_mask_r_cnn, panoptic_cascade_mask_r_cnn_from_checkpoint

CONFIG = "Panoptic-Cascade-Mask-R-CNN.yaml"
# The published architecture with narrow heads, so that a file is small; a checkpoint stores such overrides.
NARROW = [
    *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32),
    *(
        "MODEL.ROI_BOX_HEAD.FC_DIM",
        16,
        "MODEL.ROI_MASK_HEAD.CONV_DIM",
        16,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM",
        32,
    ),
]


def build(things: int = 2, stuffs: int = 3) -> nn.Module:
    torch.manual_seed(things)
    return panoptic_cascade_mask_r_cnn(things, stuffs + 1, model_overrides=NARROW)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return build().state_dict()


def save(path: Path, state: dict[str, torch.Tensor], prefix: str = "model.", **more: Any) -> Path:
    hyper_parameters = {
        "config": CfgNode({"MODEL": {"CHECKPOINT": None, "TTA_SCALES": (0.5, 1.0)}, "LIST": [1, 2]}),
        "thing_pseudo_classes": (3, 4),
        "model": {"model_config": CONFIG, "model_overrides": list(NARROW)},
    }
    content = {
        "state_dict": OrderedDict((prefix + name, value) for name, value in state.items()),
        "hyper_parameters": hyper_parameters,
        "epoch": 0,
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-4}]}],
        **more,
    }
    torch.save(content, path)
    return path


def test_from_checkpoint__lightning_file_with_a_pickled_config(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    """Upstream: torch.load fails since torch 2.6, because the file pickles its yacs config."""
    path = save(tmp_path / "cups.ckpt", weights)
    model, things, stuffs = panoptic_cascade_mask_r_cnn_from_checkpoint(path, confidence_threshold=0.3)
    assert (things, stuffs, model.training) == (2, 3, False)
    assert model.combine_instances_score_thresh == 0.3
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_load_checkpoint__config_node_becomes_plain_data(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    stored = load_checkpoint(save(tmp_path / "cups.ckpt", weights)).hyper_parameters
    assert stored["config"] == {"MODEL": {"CHECKPOINT": None, "TTA_SCALES": (0.5, 1.0)}, "LIST": [1, 2]}
    assert type(stored["config"]) is dict and type(stored["config"]["MODEL"]) is dict
    assert stored["thing_pseudo_classes"] == (3, 4)


def test_from_checkpoint__without_batch_norm_counters(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    state = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(state) < len(weights)
    _, things, stuffs = panoptic_cascade_mask_r_cnn_from_checkpoint(save(tmp_path / "old.ckpt", state))
    assert (things, stuffs) == (2, 3)


def test_load_checkpoint__teacher_is_dropped_or_preferred(
    tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    """Upstream could not load a self-training checkpoint for training: its teacher's keys were left in."""
    teacher = {f"teacher_model.model.{name}": value + 1 for name, value in weights.items()}
    student = {f"model.{name}": value for name, value in weights.items()}
    path = save(tmp_path / "self.ckpt", {**teacher, **student}, prefix="")
    name = "sem_seg_head.predictor.bias"
    assert set(load_checkpoint(path).state) == set(weights)
    assert torch.equal(load_checkpoint(path).state[name], weights[name])
    assert torch.equal(load_checkpoint(path, prefer_teacher=True).state[name], weights[name] + 1)


def test_load_checkpoint__no_teacher_falls_back_and_says_so(
    tmp_path: Path, weights: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path / "student.ckpt", weights)
    with caplog.at_level(logging.WARNING):
        assert set(load_checkpoint(path, prefer_teacher=True).state) == set(weights)
    assert "no teacher weights" in caplog.text


def test_load_checkpoint__only_the_leading_prefix_is_removed(tmp_path: Path) -> None:
    """Upstream deleted "model." wherever it stood in a name."""
    path = tmp_path / "named.ckpt"
    torch.save({"state_dict": {"model.sub_model.weight": torch.ones(1), "module.b": torch.ones(1)}}, path)
    assert set(load_checkpoint(path).state) == {"sub_model.weight", "b"}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "iteration": 7}])
def test_load_checkpoint__bare_and_detectron2_dicts(
    tmp_path: Path, weights: dict[str, torch.Tensor], wrap: Callable[[Any], Any]
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(wrap(dict(weights)), path)
    assert set(load_checkpoint(path).state) == set(weights)


def test_class_counts__come_from_the_predictors(weights: dict[str, torch.Tensor]) -> None:
    assert class_counts(weights) == (2, 3)


def test_load_into__other_class_counts_names_file_and_both(tmp_path: Path) -> None:
    path = save(tmp_path / "five.ckpt", build(5, 3).state_dict())
    with pytest.raises(
        UserError, match=r"five\.ckpt: made for 5 thing and 3 stuff .* has 2 and 3; use"
    ) as error:
        load_into(build(2, 3), load_checkpoint(path))
    assert "\n" not in str(error.value)


def test_load_into__other_architecture_is_named(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    state = {name: value for name, value in weights.items() if "fc2" not in name}
    state["backbone.extra"] = torch.ones(1)
    path = save(tmp_path / "other.ckpt", state)
    with pytest.raises(UserError, match=r"other\.ckpt: weights of another network \(6 missing.*1 unexpected"):
        load_into(build(), load_checkpoint(path))


def test_from_checkpoint__backbone_file_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "backbone.pth"
    torch.save({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match="not a panoptic network's checkpoint"):
        panoptic_cascade_mask_r_cnn_from_checkpoint(path)


@pytest.mark.parametrize("name", ["weights.ckpt", "weights.pth", "weights.pkl"])
def test_read_file__missing_truncated_and_foreign_files(
    tmp_path: Path, weights: dict[str, torch.Tensor], name: str
) -> None:
    path = tmp_path / name
    with pytest.raises(UserError, match="no such file"):
        read_file(path)
    if path.suffix == ".pkl":
        whole = pickle.dumps({"model": {"a": np.ones(1000)}})
    else:
        whole = save(path, weights).read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>404 not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=name) as error:
            read_file(path)
        assert "\n" not in str(error.value)


def test_write_file__same_content_same_bytes(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    """torch.save puts the file's name inside, and an atomic write has another temporary name each time."""
    for name in ("one.pth", "other.pth"):
        write_file(tmp_path / name, weights)
    assert file_sha256(tmp_path / "one.pth") == file_sha256(tmp_path / "other.pth")
    assert set(read_file(tmp_path / "one.pth")) == set(weights)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}])
def test_load_checkpoint__file_without_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match=r"odd\.ckpt: holds"):
        load_checkpoint(tmp_path / "odd.ckpt")


class Payload:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("name", ["evil.pkl", "evil.ckpt", "evil.pth"])
@pytest.mark.parametrize("kind", ["system", "eval", "open"])
def test_read_file__code_in_a_file_is_refused_and_not_run(tmp_path: Path, name: str, kind: str) -> None:
    """Upstream: a plain pickle.load, which runs whatever the file says."""
    sentinel = tmp_path / "executed"
    payload = {
        "system": Payload(os.system, f"touch {sentinel}"),
        "eval": Payload(builtins.eval, f"open({str(sentinel)!r}, 'w')"),
        "open": Payload(builtins.open, str(sentinel), "w"),
    }[kind]
    path = tmp_path / name
    content = {"model": {"weight": np.ones(3) if path.suffix == ".pkl" else torch.ones(3)}, "author": payload}
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=name) as error:
        read_file(path)
    assert "refused" in str(error.value) and "\n" not in str(error.value)
    assert not sentinel.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_read_file__arrays_of_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "arrays.pkl"
    content = OrderedDict(model={"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, step=np.int64(3))
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_file(path)
    np.testing.assert_array_equal(found["model"]["w"], content["model"]["w"])
    assert found["step"] == 3


def test_load_tensors__tensors_and_what_may_lie_beside(tmp_path: Path) -> None:
    path = tmp_path / "encoder.pth"
    with pytest.raises(UserError, match=r"encoder\.pth: no such file; train it"):
        load_tensors(path, "train it")
    torch.save({"weight": torch.ones(2), "height": 320}, path)
    assert load_tensors(path, beside=("height",))["height"] == 320
    for content in ({"weight": torch.ones(2), "height": 320}, torch.ones(2)):
        torch.save(content, path)
        with pytest.raises(UserError, match=r"encoder\.pth: holds no state dict"):
            load_tensors(path, beside=("width",))


def test_load_state__every_tensor_must_fit(tmp_path: Path) -> None:
    path, state = tmp_path / "line.pth", {"weight": torch.full((1, 2), 3.0), "bias": torch.zeros(1)}
    with torch.device("meta"):
        line = nn.Linear(2, 1)
    load_state(line, state, path, "train it again", assign=True)
    assert line(torch.ones(1, 2)).item() == 6
    del state["bias"]
    with pytest.raises(UserError, match=r"line\.pth: weights of another network .*bias.*; train it again"):
        load_state(nn.Linear(2, 1), state, path, "train it again")
