"""Where a folder of files came from, and whether ground truth was read anywhere on the way.

Each output folder of a step holds `provenance.json`. The fact `uses_ground_truth` is carried from inputs and
weights to outputs: true if anything upstream used labels, null if nobody knows, false only if all is known.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from cups.io.file_names import CUPS_FOLDER, IMAGE_FOLDERS
from cups.io.files import as_stored, file_sha256, read_json, write_json
from cups.io.fingerprint import DIGITS, IDENTITY, RAW, fingerprint_of, frames_identity, recipe_fingerprint
from cups.io.video import is_video
from cups.io.weights import weight_table

FILE_NAME = "provenance.json"
SCHEMA = 1
_PACKAGE = "unsupervised-panoptic-segmentation"
_GROUND_TRUTH_FOLDERS = frozenset({"gtFine", "gtCoarse", "gtBbox3d"})
_MEASURED_FOLDERS = frozenset({*IMAGE_FOLDERS, "disparity", "camera"})
"""Of the Cityscapes layout: what cameras gave."""
_WRITTEN_BY_US = ("features_", "pseudo_", "codes_", "depth_", "cause_", CUPS_FOLDER)
_SMALL_FILE = 2**20
"""Bytes up to which a JSON file may be a thing/stuff split, which says itself where it came from."""


@cache
def code_version() -> str:
    """Return the package version, the short git hash in a checkout, and "+dirty" if it is modified."""
    try:
        version = metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:
        version = "unknown"
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return version
    dirty = "+dirty" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{version} {commit}{dirty}"


def _git(*arguments: str) -> str:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        run = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Return the content of `folder/provenance.json`, or None when there is none.

    Raises:
        UserError: the file is not valid JSON, or no object.
    """
    path = Path(folder) / FILE_NAME
    return read_json(path, "run the step that wrote the folder again") if path.is_file() else None


def any_ground_truth(facts: Sequence[bool | None]) -> bool | None:
    """Combine facts: True if one is True, else None (unknown) if one is anything but False, else False."""
    if any(fact is True for fact in facts):
        return True
    return False if all(fact is False for fact in facts) else None


def fits_within(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of all that was fitted on data (centroids) on the way to an output, by name.

    The last fit of a name counts.
    """
    found: dict[str, str] = {}
    inputs, fits = provenance.get("inputs"), provenance.get("fits")
    for entry in inputs if isinstance(inputs, list) else ():
        before = entry.get("provenance") if isinstance(entry, Mapping) else None
        found |= fits_within(before) if isinstance(before, Mapping) else {}
    return found | dict(fits if isinstance(fits, Mapping) else {})


def ground_truth_answer(fact: bool | None) -> str:
    """Return the fact `uses_ground_truth` as a word for people."""
    if fact is True:
        return "YES"
    return "no" if fact is False else "unknown"


def describe_input(path: Path, measured: bool = False) -> dict[str, Any]:
    """Return `{"path", "uses_ground_truth", "fingerprint", "provenance"}` of an input.

    An input is a folder, or a file in one; of a file the content counts, and its `sha256` is told. What
    cameras gave is label-free: a video, images, disparity. gtFine is a label. Anything else without
    provenance was made somehow, by a step of ours or by another tool: nobody knows (None).

    Args:
        measured: it holds images.
    """
    path = Path(path)
    if is_video(path):
        return {"path": str(path), "uses_ground_truth": False, "fingerprint": RAW, "provenance": None}
    folder = path if path.is_dir() or not path.suffix else path.parent
    provenance = read_provenance(folder)
    fact: bool | None
    if provenance is not None:
        fact = provenance.get("uses_ground_truth")
    elif _GROUND_TRUTH_FOLDERS & set(path.parts):
        fact = True
    else:
        fact = False if measured or path.name in _MEASURED_FOLDERS else _stated(path)
    mark = fingerprint_of(provenance, known=not folder.name.startswith(_WRITTEN_BY_US))
    described = {"path": str(path), "uses_ground_truth": fact, "fingerprint": mark, "provenance": provenance}
    if not path.is_file():
        return described
    digest = file_sha256(path)
    return {**described, "fingerprint": digest[:DIGITS], IDENTITY: digest}


def _stated(path: Path) -> bool | None:
    """Return what a file says of itself, as a thing/stuff split does."""
    if path.suffix != ".json" or not path.is_file() or path.stat().st_size > _SMALL_FILE:
        return None
    fact = read_json(path, "run the step that wrote the file again").get("uses_ground_truth")
    return fact if isinstance(fact, bool) else None


def make_provenance(
    *,
    script: str,
    arguments: Mapping[str, Any],
    images: Path | None = None,
    inputs: Sequence[Path] = (),
    weights: Sequence[Mapping[str, Any]] = (),
    uses_ground_truth: bool | None = False,
    labels: Mapping[str, Any] | None = None,
    depth: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    frames: Iterable[str] | None = None,
    whole: bool = False,
    fits: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the content of a `provenance.json`.

    Args:
        script: name of the step.
        arguments: its settings; values that JSON lacks (paths) are stored as text.
        images: folder of the images, or a video.
        inputs: folders (or files) read besides; each is listed with its own provenance.
        weights: checkpoints that were used, as entries of `refs/weights.yaml`; their `uses_ground_truth`
            (None or missing = unknown) counts.
        uses_ground_truth: whether this step itself read labels (None: unknown).
        labels: what the ids of semantic maps mean (`pseudo_labels.steps.label_kind`).
        depth: what kind of depth maps the folder holds (`pseudo_labels.inputs.depth_source`).
        settings: those of the arguments that decide what is written, for the fingerprint.
        frames: names of all images of the run, or {name: size in bytes}.
        whole: what is written depends on all of them at once, as trained weights do.
        fits: digests of what was fitted on data and decides what is written (centroids), by name.
    """
    described = [] if images is None else [describe_input(images, measured=True)]
    described += [describe_input(path) for path in inputs]
    facts = [uses_ground_truth]
    facts += [entry["uses_ground_truth"] for entry in described]
    facts += [weight.get("uses_ground_truth") for weight in weights]
    content = {
        "schema": SCHEMA,
        "script": script,
        "code_version": code_version(),
        "uses_ground_truth": any_ground_truth(facts),
        "arguments": as_stored(arguments),
        "inputs": described,
        "weights": [as_stored(weight) for weight in weights],
    }
    if frames is not None:
        content["frames"] = frames_identity(frames)
    if fits:
        content["fits"] = dict(fits)
    if labels is not None:
        content["labels"] = dict(labels)
    if depth is not None:
        content["depth"] = dict(depth)
    content["fingerprint"] = recipe_fingerprint(content, settings, whole)
    return content


def write_provenance(folder: Path, **about: Any) -> dict[str, Any]:
    """Write `folder/provenance.json` atomically and return its content, see `make_provenance`.

    Args:
        folder: output folder of the step; made if missing.
    """
    content = make_provenance(**about)
    write_json(Path(folder) / FILE_NAME, content)
    return content


def known_weights(name: str, *files: Path) -> dict[str, Any]:
    """Return the entry of a checkpoint in `refs/weights.yaml`, with its `name`; unknown ones stay unknown.

    An entry that is not listed has `uses_ground_truth` None.

    Args:
        files: where the weights were read from, to tell them from later ones (`changed_weights`).
    """
    entry = weight_table().get(name, {"uses_ground_truth": None, "supervised_by": "unknown"})
    return {"name": name, **entry, **_identity(files)}


def trained_weights(path: Path, *files: Path) -> dict[str, Any]:
    """Return the entry, as of `known_weights`, of weights (file or folder) that a script of ours trained.

    Without a `provenance.json` in its folder, `uses_ground_truth` is None.

    Args:
        files: of which the weights consist (default: `path`, a file).
    """
    provenance = read_provenance(path if path.is_dir() else path.parent) or {}
    return {
        "name": str(path),
        "uses_ground_truth": provenance.get("uses_ground_truth"),
        **_identity(files or (path,)),
    }


def _identity(files: Sequence[Path]) -> dict[str, dict[str, str]]:
    digests = {file.name: file_sha256(file) for file in files if file.is_file()}
    return {IDENTITY: digests} if digests else {}
