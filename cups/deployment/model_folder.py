"""Writing a network as a folder that model hubs hold and `cups.load` opens, see `cups.io.model_folder`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cups.categories import names_file
from cups.errors import UserError
from cups.io.checkpoint import Checkpoint
from cups.io.durable import sync_folder
from cups.io.files import atomic_write, file_sha256, read_json, write_json, write_text
from cups.io.model_folder import CARD_FILE, CONFIG_FILE, MODEL_TYPE, VERSION, WEIGHTS_FILE, read_config
from cups.io.weights import weight_table


def write_model_folder(
    folder: Path, checkpoint: Checkpoint, about: Mapping[str, Any], card: str, names: Path | None = None
) -> Path:
    """Write weights, configuration, model card, and the names of the classes where they have some.

    A folder that a kill leaves half has no `config.json`, and is refused by whoever opens it.

    Args:
        folder: made if missing; an earlier export in it is replaced.
        checkpoint: the network.
        about: the rest of `config.json`: keys of `cups.io.model_folder.STORED`.
        card: text of the model card.
        names: a file of `cups.categories.save_names`; None takes that beside the checkpoint.

    Raises:
        UserError: a folder that holds other files under these names.
    """
    from safetensors.torch import save_file

    config, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if config.is_file():
        try:
            read_config(config)
        except UserError:
            raise UserError(
                f"{folder}: holds a {CONFIG_FILE} of something else; choose another `output`"
            ) from None
        config.unlink()
    state = {name: value.detach().contiguous().clone() for name, value in checkpoint.state.items()}
    atomic_write(weights, lambda temporary: save_file(state, temporary, metadata={"format": "pt"}))
    _carry_names(names or names_file(checkpoint.path), checkpoint.path, weights)
    write_text(folder / CARD_FILE, card)
    write_json(config, {"model_type": MODEL_TYPE, "version": VERSION, **about})
    sync_folder(folder)
    read_config(config)  # what was written can be read
    return folder


def _carry_names(source: Path, old: Path, weights: Path) -> None:
    """Put the names of the classes beside the new weights, for which they hold as for the old ones.

    Names beside a checkpoint that is another one by now are left behind, as `cups.load` leaves them aside.
    """
    names_file(weights).unlink(missing_ok=True)
    if not source.is_file():
        return
    content = read_json(source, "write it again with val.py --save_names")
    if content.get("checkpoint", {}).get("sha256") == file_sha256(old):
        stamp = {"file": weights.name, "sha256": file_sha256(weights)}
        write_json(names_file(weights), {**content, "checkpoint": stamp})


def history_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may be published of a checkpoint's provenance: steps, data by name, weights, ground truth.

    Paths of the machine that trained stay there: a folder is told by its last name.
    """
    steps: dict[str, dict[str, Any]] = {}
    weights: dict[str, dict[str, Any]] = {}
    for entry in _walk(provenance):
        if isinstance(entry.get("name"), str):
            weights.setdefault(_last(entry["name"]), _weight(entry))
        else:
            step = dict(entry) if "step" in entry else _step(entry)
            steps.setdefault(json.dumps(step, sort_keys=True, default=str), step)
    return {
        "uses_ground_truth": _fact(provenance),
        "code_version": str(provenance.get("code_version", "unknown"))[:80],
        "steps": list(steps.values()),
        "weights": list(weights.values()),
    }


def _walk(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps behind a network and the weights that they used, the earliest first."""
    before = [part.get("provenance") for part in _mappings(entry.get("inputs"))]
    for part in (*before, entry.get("pseudo_labels"), entry.get("start"), entry.get("stage2")):
        if isinstance(part, Mapping) and part:
            yield from _walk(part)
    # Of a folder that was published before: its history is flat already.
    yield from (part for part in _mappings(entry.get("steps")) if isinstance(part.get("step"), str))
    yield from (part for part in _mappings(entry.get("weights")) if isinstance(part.get("name"), str))
    if entry and "steps" not in entry:
        yield entry


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [part for part in value if isinstance(part, Mapping)] if isinstance(value, list | tuple) else []


def _step(entry: Mapping[str, Any]) -> dict[str, Any]:
    labelled = entry.get("ground_truth")
    if isinstance(labelled, Mapping):
        told = {key: labelled[key] for key in ("data", "split", "frames", "of", "seed") if key in labelled}
        return {"step": "training on ground truth", **told, "uses_ground_truth": True}
    if "script" not in entry:
        name = "Stage 3: self-training" if "stage2" in entry else "Stage 2: training on pseudo-labels"
        return {"step": name, "uses_ground_truth": _fact(entry)}
    arguments = entry.get("arguments")
    arguments = arguments if isinstance(arguments, Mapping) else {}
    data = next((arguments[key] for key in ("cityscapes_root", "image_dir") if arguments.get(key)), None)
    step = {"step": str(entry["script"]), "uses_ground_truth": _fact(entry)}
    return step if data is None else {**step, "data": _last(data)}


def _weight(entry: Mapping[str, Any]) -> dict[str, Any]:
    name = _last(entry["name"])
    known = weight_table().get(name, {})
    told = {key: entry.get(key, known.get(key)) for key in ("supervised_by", "licence")}
    return {"name": name, "uses_ground_truth": _fact(entry)} | {k: str(v) for k, v in told.items() if v}


def _fact(entry: Mapping[str, Any]) -> bool | None:
    fact = entry.get("uses_ground_truth")
    return fact if fact is True or fact is False else None


def _last(path: Any) -> str:
    """Return a name, or the last part of a path."""
    return Path(str(path)).name[:200] or "unnamed"
