"""Whether folders that are used together come from the same ancestors, by what their `provenance.json` tell.

A folder that does not tell (one's own masks, files of an early version) is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cups.errors import UserError
from cups.io.files import read_json
from cups.io.fingerprint import fingerprint_of, same_input
from cups.io.provenance import describe_input, read_provenance
from pseudo_labels.steps.frames import IMAGES, Folder, Frame
from pseudo_labels.steps.resume import count_images

MADE_OF = "made_of"
"""Key, in a thing/stuff split, of the semantics that it was made of."""
CLASSIFY = "pseudo_labels/classify_stuff_things.py"


def refuse_other_semantics(semantics: Path, instances: Path) -> None:
    """Raise a `UserError` if the instances were made from other semantics than these.

    Their semantics are the nearest folder with labels among their inputs; instances without any (one's own
    masks, slots of whole images) fit all semantics. What one step wrote at once fits too.
    """
    made = read_provenance(instances)
    ancestor = _nearest_labels(made)
    present = describe_input(semantics)
    if made is not None and _written_together(made, present["provenance"] or {}):
        return
    if ancestor is None or present["provenance"] is None or same_input(ancestor, present):
        return
    name = Path(ancestor["path"]).name
    if name == semantics.name:
        raise UserError(
            f"{instances}: made from an earlier {name}, which was made anew since; generate them again"
        )
    raise UserError(
        f"{instances}: made from {name}, not {semantics.name}; generate instances with "
        f"`semantic_subdir` {semantics.name}, or check `semantic_subdir` and `instance_subdir`"
    )


def _written_together(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("script", "arguments", "inputs", "fits"))


def _nearest_labels(provenance: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the nearest input that is a folder of labels; of several equally near ones the first."""
    level = [provenance]
    while level:
        entries = [entry for one in level if one is not None for entry in one.get("inputs", ())]
        folders = [entry for entry in entries if Path(entry["path"]).suffix != ".json"]
        for entry in folders:
            if "labels" in (entry.get("provenance") or {}):
                return dict(entry)
        level = [entry.get("provenance") for entry in folders]
    return None


def refuse_other_features(checkpoint: Path, features: Path, trained_on: str) -> None:
    """Raise a `UserError` if a network was trained on features of another backbone, size or kind than these.

    Args:
        checkpoint: file beside the `provenance.json` of its training.
        trained_on: name of the folder of features there.
    """
    trained = read_provenance(checkpoint.parent) or {}
    for entry in trained.get("inputs", ()):
        if Path(entry["path"]).name == trained_on and not same_input(entry, describe_input(features)):
            raise UserError(
                f"{features}: not the features that {checkpoint} was trained on (other settings, backbone or "
                "weights); extract them as for the training, or train again"
            )


def made_of(semantics: Folder, frames: Sequence[Frame] | None) -> dict[str, Any]:
    """Return what a thing/stuff split records of the semantics it was made of.

    frames: those that it was to be made of; None: it belongs to the folder whatever frames this holds.
    """
    content = {"semantic_subdir": semantics.name}
    content |= {"fingerprint": describe_input(semantics.directory)["fingerprint"]}
    if frames is None:
        return content
    return {**content, "frames": len(frames), "folders": sorted({_split(frame.name) for frame in frames})}


def refuse_stale_split(path: Path, semantics: Folder) -> None:
    """Raise a `UserError` if a thing/stuff split was made of other semantics than the folder holds now.

    That is: the folder was made anew since, or has got images of the same splits since. A split that the user
    brings from elsewhere is held to the first only, and one of another folder's semantics to neither.
    """
    origin = read_json(path, f"run {CLASSIFY}").get(MADE_OF)
    present = read_provenance(semantics.directory)
    own = path.resolve().parent == semantics.directory.resolve()
    if not isinstance(origin, dict) or present is None:
        return
    if not own and origin.get("semantic_subdir") != semantics.name:
        return
    again = f"run {CLASSIFY} `semantic_subdir` {semantics.name} again"
    if origin.get("fingerprint") != fingerprint_of(present):
        raise UserError(f"{path}: made of an earlier {semantics.name}, which was made anew since; {again}")
    held = _images_in(semantics, origin.get("folders", ())) if own and "frames" in origin else 0
    if held > origin.get("frames", 0):
        raise UserError(f"{path}: made of {count_images(origin['frames'])}, the folder holds {held}; {again}")


def _images_in(semantics: Folder, splits: Sequence[str]) -> int:
    """Return how many images of these splits have semantics, by the list that the step keeps."""
    path = semantics.directory / IMAGES
    names = read_json(path, "run the step that wrote the folder again") if path.is_file() else {}
    files = (semantics.directory / f"{name}{semantics.suffix}" for name in names if _split(name) in splits)
    return sum(file.is_file() for file in files)


def _split(name: str) -> str:
    """Return the first folder of a frame's name: its split."""
    return name.partition("/")[0] if "/" in name else ""
