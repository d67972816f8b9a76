"""CAUSE heads on disk, published or of `train_cause`: loading them with their backbone, and saving them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import refs.cause
from cups.backbones import build_backbone, load_strict
from cups.backbones.names import DEFAULT_DINOV2, TEXTON
from cups.errors import UserError
from cups.io.checkpoint import load_tensors, write_file
from cups.io.files import atomic_write, read_json, write_json
from cups.io.provenance import known_weights, read_provenance, trained_weights
from cups.io.weights import weight_files
from pseudo_labels.inputs.class_order import class_order
from pseudo_labels.networks.cause_codes import (
    CauseModel,
    FeatureExtractor,
    Standardizer,
    Tiling,
    default_tiling,
)
from pseudo_labels.networks.devices import pick_device, pick_precision
from pseudo_labels.settings.cause import WINDOW_BATCH, HeadsChoice
from pseudo_labels.steps.folders import TEXTON_HEADS
from refs.cause import Cluster, SegmentTR

SEGMENT, CLUSTER, CODEBOOK, SETTINGS = "segment_tr.pth", "cluster_tr.pth", "modular.npy", "settings.json"
PUBLISHED_FOLDER = Path(refs.cause.__file__).parent / "CAUSE"


def heads_folder(choice: HeadsChoice, root: Path) -> Path:
    """Return the folder of the heads: the one that is named, or the default of the backbone.

    root: under which folders are written; heads of the texton backbone are there.
    """
    if choice.checkpoint_dir is not None:
        return choice.checkpoint_dir
    return root / TEXTON_HEADS if choice.backbone == TEXTON else PUBLISHED_FOLDER


def build_extractor(
    choice: HeadsChoice,
    folder: Path,
    stored: Mapping[str, Any],
    batch: int = WINDOW_BATCH,
) -> FeatureExtractor:
    """Return the extractor that the settings and the heads' own describe.

    Args:
        folder: of the heads; weights of the backbone that lie there are preferred.
        stored: the heads' own settings (`read_settings`).
        batch: windows that the backbone takes at once.

    Raises:
        UserError: another backbone than the heads were trained on, missing weights, impossible windows.
    """
    device = pick_device(choice.device)
    trained_on = stored.get("backbone")
    name = choice.backbone or trained_on or DEFAULT_DINOV2
    if trained_on is not None and name != trained_on:
        raise UserError(f"{folder}: heads of backbone {trained_on}, not {name}; change `checkpoint_dir`")
    checkpoint = choice.backbone_checkpoint
    if checkpoint is None and name != TEXTON:
        beside = folder / weight_files(name)[0].path.name
        checkpoint = beside if beside.is_file() else None
    backbone = build_backbone(name, checkpoint).to(device)
    patch = int(backbone.patch_size)  # type: ignore[arg-type]
    defaults = stored.get("tiling") or asdict(default_tiling(name, patch))
    given = {"height": choice.height, "window": choice.window, "stride": choice.stride}
    tiling = Tiling(**{key: defaults[key] if value is None else value for key, value in given.items()})
    if tiling.window < patch or tiling.window % patch or tiling.stride < 1 or tiling.height < 0:
        raise UserError(
            f"`window` {tiling.window}: must be a multiple of the patch size {patch} (`stride` >= 1)"
        )
    precision = pick_precision(choice.precision, device)
    return FeatureExtractor(name, backbone, tiling, device, precision=precision, batch=batch)


def load_cause(choice: HeadsChoice, folder: Path, batch: int = WINDOW_BATCH) -> CauseModel:
    """Load heads (published, or of `train_cause`) and their backbone, which takes `batch` windows at once.

    The rows of the probe come in the order of the classes where the heads say which row is which class
    (`class_order`), else as they are.

    Args:
        folder: of the heads (`heads_folder`).

    Raises:
        UserError: missing folder or file, weights that do not fit together.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; train heads with train_cause.py or give `checkpoint_dir`")
    settings = read_settings(folder)
    extractor = build_extractor(choice, folder, settings, batch)
    device = extractor.device
    segment = build_segment(load_tensors(folder / SEGMENT), folder / SEGMENT)
    tensors = load_tensors(folder / CLUSTER)
    if not {"codebook", "cluster_probe"} <= tensors.keys():
        raise UserError(f"{folder / CLUSTER}: lacks codebook or cluster_probe; give the published file")
    codebook, probe = tensors["codebook"], tensors["cluster_probe"]
    cluster = Cluster(codebook.shape[1], probe.shape[1], len(codebook), len(probe))
    load_strict(cluster, folder / CLUSTER)
    dim = segment.head.query_pos.shape[1]
    if not dim == codebook.shape[1] == extractor.backbone.embed_dim:
        raise UserError(
            f"{folder}: heads take {dim} channels, backbone {extractor.name} gives another number"
        )
    order = class_order(folder / SETTINGS)
    if order is not None:
        _put_in_order(cluster, order, folder / SETTINGS)
    if "mean" in settings:
        mean, std = (torch.tensor(settings[key], dtype=torch.float32) for key in ("mean", "std"))
        extractor = replace(extractor, standardizer=Standardizer(mean, std).to(device))
    return CauseModel(
        extractor, segment.to(device).eval(), cluster.to(device).eval(), head_weights(folder, extractor.name)
    )


def _put_in_order(cluster: Cluster, order: Sequence[int], path: Path) -> None:
    """Sort the rows of the probe, so that row i is class i."""
    if len(order) != len(cluster.cluster_probe):
        raise UserError(
            f"{path}: class_order of {len(order)} rows, the probe has {len(cluster.cluster_probe)}"
        )
    rows = torch.tensor(order, device=cluster.cluster_probe.device).argsort()
    cluster.cluster_probe.data = cluster.cluster_probe.data[rows]


def head_weights(folder: Path, backbone: str) -> list[dict[str, Any]]:
    """Return the provenance entries of the heads in `folder` and of the backbone's weights."""
    segment, cluster = folder / SEGMENT, folder / CLUSTER
    if read_provenance(folder) is None:
        heads = [known_weights("cause_segment_tr", segment), known_weights("cause_cluster_tr", cluster)]
    else:
        heads = [trained_weights(segment, segment, cluster)]
    return [*heads, *([] if backbone == TEXTON else [known_weights(backbone)])]


def build_segment(tensors: dict[str, Tensor], path: Path) -> SegmentTR:
    """Make the head that a state dict fits (all sizes are read off its shapes) and load it."""
    try:
        queries, dim = tensors["head.query_pos"].shape
        projection, reduced = tensors["projection_head.f.weight"].shape[:2]
        classes = len(tensors["linear.f.weight"])
        hidden = len(tensors["head.tr.linear1.weight"])
        segment = SegmentTR(dim, reduced, projection, classes, queries, hidden)
        segment.load_state_dict(tensors, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        detail = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: not a segment_tr checkpoint ({detail}); check `checkpoint_dir`") from None
    return segment


def read_settings(folder: Path) -> dict[str, Any]:
    """Return `settings.json` of heads trained here; empty for published ones."""
    path = folder / SETTINGS
    return read_json(path, "train the heads again") if path.is_file() else {}


def save_heads(folder: Path, segment: SegmentTR, cluster: Cluster, settings: dict[str, Any]) -> None:
    """Write heads in the published layout, atomically, and `settings.json` beside them."""
    write_file(folder / SEGMENT, segment.state_dict())
    write_file(folder / CLUSTER, cluster.state_dict())
    codebook = cluster.codebook.detach().cpu().numpy().astype(np.float32)
    atomic_write(folder / CODEBOOK, lambda path: np.save(path, codebook))
    write_json(folder / SETTINGS, settings)
