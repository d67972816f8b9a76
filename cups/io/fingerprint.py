"""Identity of what a step writes: the fingerprint of its recipe, and what differs between two recipes.

A recipe is what decides the content of files: script, settings, what labels mean, the recipes of the inputs,
the content of weights and fits. Neither paths nor the version of the code belong to it. The frames do only
where one file is made of all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RAW = "raw"
"""Fingerprint of inputs that no step of ours wrote: the same for all, for their path tells nothing."""
UNKNOWN = "unknown"
"""Fingerprint of a folder that has lost its `provenance.json`."""
IDENTITY = "sha256"
"""Key, in the entry of weights, of the digests by file name."""
DIGITS = 24
_SLURM = ("partition", "account", "time", "gpus", "cpus", "mem")
RUN_ARGUMENTS = frozenset(
    {
        *("cityscapes_root", "image_dir", "split", "max_images", "output_root", "output_dir", "output_json"),
        *(
            "overwrite",
            "skip_bad",
            "show",
            "num_workers",
            "num_shards",
            "shard",
            "executor",
            "executor_folder",
        ),
        *("device", "batch_size", "cache_gb", "split_json", "checkpoint_dir", "checkpoint"),
        *(f"slurm_{name}" for name in _SLURM),
    }
)
"""Arguments that decide nothing, or are paths: left out where old files do not tell which ones decide."""


def digest_of(content: Any) -> str:
    """Return a digest of JSON-ready content: `DIGITS` hexadecimal digits, whatever the order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def array_digest(array: np.ndarray) -> str:
    """Return a digest of the values, the shape and the type of an array."""
    kind = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(array).tobytes()).hexdigest()[:DIGITS]


def frames_identity(frames: Iterable[str]) -> dict[str, Any]:
    """Return `{"count", "digest"}` of a set of frames, whatever their order.

    frames: their names; or {name: bytes of the image}, which adds a digest of the "sizes".
    """
    ordered = sorted(frames)
    identity = {"count": len(ordered), "digest": digest_of(ordered)}
    return {**identity, "sizes": digest_of(frames)} if isinstance(frames, Mapping) else identity


def recipe_fingerprint(
    provenance: Mapping[str, Any], settings: Mapping[str, Any] | None = None, whole: bool = False
) -> str:
    """Return the fingerprint of the recipe that a `provenance.json` describes.

    Args:
        settings: those that decide; None: all arguments but `RUN_ARGUMENTS`.
        whole: the files are made of all frames at once, so that these belong to the recipe.
    """
    decided = _decided(provenance) if settings is None else dict(settings)
    inputs = {entry.get("fingerprint") or _of_entry(entry) for entry in provenance.get("inputs", ())}
    weights = provenance.get("weights", ())
    content = {
        "script": provenance.get("script"),
        "settings": decided,
        "labels": provenance.get("labels"),
        "inputs": sorted(inputs - {RAW}),
        "weights": sorted({digest for entry in weights for digest in _digests(entry)}),
        "fits": provenance.get("fits", {}),
        "frames": provenance.get("frames") if whole else None,
    }
    return digest_of(content)


def fingerprint_of(provenance: Mapping[str, Any] | None, known: bool = True) -> str:
    """Return the fingerprint that a provenance holds; of older ones, the one that its content gives.

    Args:
        known: whether a folder without provenance (None) is raw data; else it has lost its own.
    """
    if provenance is None:
        return RAW if known else UNKNOWN
    return str(provenance.get("fingerprint") or recipe_fingerprint(provenance))


def _of_entry(entry: Mapping[str, Any]) -> str:
    return fingerprint_of(entry.get("provenance"), entry.get("uses_ground_truth") is not None)


def _decided(provenance: Mapping[str, Any]) -> dict[str, Any]:
    arguments = provenance.get("arguments", {})
    return {name: arguments[name] for name in arguments if name not in RUN_ARGUMENTS}


def _digests(weights: Mapping[str, Any]) -> list[str]:
    """Return what tells weights apart: digests of their files, else their name where that is no path."""
    name = str(weights.get("name"))
    return list(weights.get(IDENTITY, {}).values()) or ([name] if Path(name).name == name else [])


def same_recipe(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Return whether two provenances tell of the same recipe, as far as both tell.

    Those of version 0.2.0 have no fingerprint: script, common arguments, weights and inputs are compared.
    """
    if one is None or other is None:
        return True
    if "fingerprint" in one and "fingerprint" in other:
        return bool(one["fingerprint"] == other["fingerprint"])
    then, now = _decided(one), _decided(other)
    return (
        one.get("script") == other.get("script")
        and all(then[name] == now[name] for name in then.keys() & now.keys())
        and not changed_weights(one, other.get("weights", ()))
        and not changed_inputs(one, other)
    )


def changed_inputs(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what is told of the inputs that have another recipe than in an `earlier` provenance."""
    then_by, now_by = _by_name(earlier), _by_name(now)
    common = sorted(then_by.keys() & now_by.keys())
    changed = [f"{name} was made anew" for name in common if not same_input(then_by[name], now_by[name])]
    lost, new = _without_equal(then_by, now_by), _without_equal(now_by, then_by)
    if lost and new:
        changed.append(f"{', '.join(lost)}, now {', '.join(new)}")
    return changed


def _by_name(provenance: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {Path(entry["path"]).name: entry for entry in provenance.get("inputs", ())}


def same_input(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two entries of inputs (`describe_input`) are of one recipe, as far as both tell."""
    marks = [entry.get("fingerprint", UNKNOWN) for entry in (then, now)]
    if marks[0] == marks[1] or then.get("provenance") is None or now.get("provenance") is None:
        return UNKNOWN in marks or marks[0] == marks[1]
    return same_recipe(then["provenance"], now["provenance"])


def _without_equal(
    entries: Mapping[str, Mapping[str, Any]], others: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the names of inputs by our steps that `others` have neither by name nor by fingerprint."""
    known = {entry.get("fingerprint") for entry in others.values()} | {RAW, UNKNOWN, None}
    return sorted(
        n for n, entry in entries.items() if n not in others and entry.get("fingerprint") not in known
    )


def changed_weights(earlier: Mapping[str, Any], weights: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the files of `weights` that had other content in an `earlier` provenance."""
    then, now = (
        {name: digest for entry in entries for name, digest in entry.get(IDENTITY, {}).items()}
        for entries in (earlier.get("weights", ()), weights)
    )
    if then and not then.keys() & now.keys():  # files of other names
        return sorted(name for name in now if now[name] not in then.values())
    return sorted(name for name in now if then.get(name, now[name]) != now[name])


def changed_fits(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of the fits that both provenances tell of, and that differ."""
    then, present = earlier.get("fits", {}), now.get("fits", {})
    return sorted(name for name in present if then.get(name, present[name]) != present[name])
