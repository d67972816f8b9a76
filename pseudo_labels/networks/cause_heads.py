"""CAUSE heads on disk, published or of `train_cause`: loading them with their backbone, and saving them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import refs.cause
from cups.backbones import build_backbone, load_strict
from cups.backbones.names import DEFAULT_DINOV2, TEXTON, is_own
from cups.errors import UserError
from cups.io.checkpoint import load_tensors, write_file
from cups.io.files import read_json, write_json, write_npy
from cups.io.fingerprint import digest_of
from cups.io.limits import AGAIN
from cups.io.provenance import known_weights, read_provenance, trained_weights
from cups.io.weights import stored_at, weight_files
from pseudo_labels.inputs.class_order import class_order
from pseudo_labels.networks.cause_codes import (
    CauseModel,
    FeatureExtractor,
    Standardizer,
    Tiling,
    default_tiling,
)
from pseudo_labels.networks.devices import pick_device, pick_precision
from pseudo_labels.networks.frozen_features import backbone_weights
from pseudo_labels.networks.stored import build_fitting
from pseudo_labels.settings.cause import WINDOW_BATCH, HeadsChoice
from pseudo_labels.settings.feature_choice import stored_backbone
from pseudo_labels.steps.folders import trained_heads
from refs.cause import Cluster, SegmentTR

log = logging.getLogger(__name__)
SEGMENT, CLUSTER, CODEBOOK, SETTINGS = "segment_tr.pth", "cluster_tr.pth", "modular.npy", "settings.json"
STANDARDIZER_DIGEST = "standardizer_digest"
"""In `settings.json`: digest of its lists `mean` and `std`, which decide every code."""
LONGEST_SIDE = 8192
"""Pixels to which the settings of heads may have images resized."""
PUBLISHED_FOLDER = Path(refs.cause.__file__).parent / "CAUSE"


def own_heads(choice: HeadsChoice, root: Path) -> Path:
    """Return the folder that `train_cause` writes: the one that is named, or the backbone's under `root`."""
    return choice.checkpoint_dir or root / trained_heads(choice.backbone or DEFAULT_DINOV2)


def heads_folder(choice: HeadsChoice, root: Path) -> Path:
    """Return the folder whose heads are read: that of `own_heads` if it is there, else the published one.

    For the texton backbone nothing is published. A folder of a training that was cut off is taken too, so
    that its missing heads are noticed.

    root: under which folders are written.
    """
    folder = own_heads(choice, root)
    if choice.checkpoint_dir is None and not _is_local_only(choice) and not folder.is_dir():
        folder = PUBLISHED_FOLDER
    log.info("CAUSE heads: %s", folder)
    return folder


def _is_local_only(choice: HeadsChoice) -> bool:
    """Return whether nobody can have published heads of the backbone."""
    return choice.backbone == TEXTON or is_own(choice.backbone)


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
    trained_on, name = stored.get("backbone"), backbone_of_heads(choice, folder, stored)
    if trained_on is not None and name != trained_on:
        told = " ".join(str(trained_on)[:100].split())
        raise UserError(f"{folder}: heads of backbone {told}, not {name}; change `checkpoint_dir`")
    backbone = build_backbone(name, backbone_file(choice, folder, name)).to(device)
    patch = int(backbone.patch_size)  # type: ignore[arg-type]
    tiling = tiling_of(choice, stored, name, patch)
    if tiling.window < patch or tiling.window % patch or tiling.stride < 1 or tiling.height < 0:
        raise UserError(
            f"`window` {tiling.window}: must be a multiple of the patch size {patch} (`stride` >= 1)"
        )
    precision = pick_precision(choice.precision, device)
    return FeatureExtractor(name, backbone, tiling, device, precision=precision, batch=batch)


def backbone_of_heads(choice: HeadsChoice, folder: Path, stored: Mapping[str, Any]) -> str:
    """Return the backbone that is named, else that of the heads; DINOv2's where they do not tell.

    Raises:
        UserError: heads of a backbone that only the user may name (`stored_backbone`).
    """
    if choice.backbone is not None:
        return choice.backbone
    return stored_backbone(stored, folder / SETTINGS) if "backbone" in stored else DEFAULT_DINOV2


def tiling_of(choice: HeadsChoice, stored: Mapping[str, Any], name: str, patch: int) -> Tiling:
    """Return how images are cut: as the settings say, else as the heads do, else as is usual.

    Raises:
        UserError: the heads tell no whole numbers of pixels.
    """
    defaults = stored.get("tiling") or asdict(default_tiling(name, patch))
    given = {"height": choice.height, "window": choice.window, "stride": choice.stride}
    sides = [defaults.get(key) if isinstance(defaults, dict) else None for key in given]
    if not all(type(side) is int and 0 <= side <= LONGEST_SIDE for side in sides):
        raise UserError(
            f"{SETTINGS} of the heads: tiling is no three numbers up to {LONGEST_SIDE}; train again"
        )
    return Tiling(**{key: defaults[key] if value is None else value for key, value in given.items()})


def backbone_file(choice: HeadsChoice, folder: Path, name: str) -> Path | None:
    """Return the file of the backbone that is named, or lies beside the heads; None: the usual place."""
    if choice.backbone_checkpoint is not None or name == TEXTON or is_own(name):
        return choice.backbone_checkpoint
    return weight_files(name)[0].find(folder)


def load_extractor(choice: HeadsChoice, folder: Path, batch: int = WINDOW_BATCH) -> FeatureExtractor:
    """Return the extractor of the heads in `folder`, standardised as theirs; there need not be any heads.

    Raises:
        UserError: as `build_extractor`.
    """
    stored = read_settings(folder)
    extractor = build_extractor(choice, folder, stored, batch)
    if "mean" not in stored:
        return extractor
    mean, std = (_channels(stored.get(key), extractor, folder / SETTINGS) for key in ("mean", "std"))
    return replace(extractor, standardizer=Standardizer(mean, std).to(extractor.device))


def _channels(told: Any, extractor: FeatureExtractor, path: Path) -> Tensor:
    """Return one number for each channel of the features, (D,).

    Raises:
        UserError: the file holds something else.
    """
    count = int(extractor.backbone.embed_dim)  # type: ignore[arg-type]
    numbers = isinstance(told, list) and all(type(value) in (int, float) for value in told)
    if not numbers or len(told) != count:
        raise UserError(f"{path}: mean and std must be {count} numbers each; train the heads again")
    return torch.tensor([float(value) for value in told], dtype=torch.float32)


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
    extractor = load_extractor(choice, folder, batch)
    device = extractor.device
    segment = build_segment(load_tensors(folder / SEGMENT), folder / SEGMENT)
    tensors = load_tensors(folder / CLUSTER)
    if not {"codebook", "cluster_probe"} <= tensors.keys():
        raise UserError(f"{folder / CLUSTER}: lacks codebook or cluster_probe; give the published file")
    codebook, probe = tensors["codebook"], tensors["cluster_probe"]
    if codebook.ndim != 2 or probe.ndim != 2:
        raise UserError(
            f"{folder / CLUSTER}: codebook and cluster_probe are no tables; check `checkpoint_dir`"
        )
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
    weights = [
        *head_weights(folder),
        *backbone_weights(extractor.name, backbone_file(choice, folder, extractor.name)),
    ]
    return CauseModel(extractor, segment.to(device).eval(), cluster.to(device).eval(), weights)


def _put_in_order(cluster: Cluster, order: Sequence[int], path: Path) -> None:
    """Sort the rows of the probe, so that row i is class i."""
    if len(order) != len(cluster.cluster_probe):
        raise UserError(
            f"{path}: class_order of {len(order)} rows, the probe has {len(cluster.cluster_probe)}"
        )
    rows = torch.tensor(order, device=cluster.cluster_probe.device).argsort()
    cluster.cluster_probe.data = cluster.cluster_probe.data[rows]


def head_weights(folder: Path) -> list[dict[str, Any]]:
    """Return the provenance entries of the heads in `folder`."""
    segment, cluster = stored_at(folder / SEGMENT), stored_at(folder / CLUSTER)
    if read_provenance(folder) is None:
        return [known_weights("cause_segment_tr", segment), known_weights("cause_cluster_tr", cluster)]
    return [trained_weights(segment, segment, cluster)]


def build_segment(tensors: dict[str, Tensor], path: Path) -> SegmentTR:
    """Make the head that a state dict fits (all sizes are read off its shapes) and load it."""
    try:
        queries, dim = tensors["head.query_pos"].shape
        projection, reduced = tensors["projection_head.f.weight"].shape[:2]
        classes = len(tensors["linear.f.weight"])
        hidden = len(tensors["head.tr.linear1.weight"])
        sizes = (dim, reduced, projection, classes, queries, hidden)
        segment = build_fitting(lambda: SegmentTR(*sizes), tensors)
    except (KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
        detail = " ".join(str(error).split())[:150]
        raise UserError(f"{path}: not a segment_tr checkpoint ({detail}); check `checkpoint_dir`") from None
    return segment


def read_settings(folder: Path) -> dict[str, Any]:
    """Return `settings.json` of heads trained here; empty for published ones.

    Raises:
        UserError: a damaged file. Those of earlier versions have no digest.
    """
    path = folder / SETTINGS
    stored = read_json(path, "train the heads again") if path.is_file() else {}
    digest = digest_of([stored.get("mean"), stored.get("std")])
    if stored.get(STANDARDIZER_DIGEST, digest) != digest:
        raise UserError(f"{path}: its mean or std has changed since it was written; {AGAIN}")
    return stored


def save_heads(folder: Path, segment: SegmentTR, cluster: Cluster, settings: dict[str, Any]) -> None:
    """Write heads in the published layout, atomically, and `settings.json` beside them."""
    write_file(folder / SEGMENT, segment.state_dict())
    write_file(folder / CLUSTER, cluster.state_dict())
    codebook = cluster.codebook.detach().cpu().numpy().astype(np.float32)
    write_npy(folder / CODEBOOK, codebook)
    write_json(folder / SETTINGS, settings)
