"""From settings to an exported network: the folder for model hubs, and the graphs."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from cups.categories import Categories, load_categories
from cups.deployment import postprocess
from cups.deployment.model_card import model_card
from cups.deployment.model_folder import history_of, write_model_folder
from cups.errors import UserError
from cups.export_settings import ExportSettings
from cups.io.checkpoint import Checkpoint, load_checkpoint
from cups.io.files import atomic_write, write_json
from cups.model.graph import INPUT, OUTPUTS, DeployedNetwork, write_graph
from cups.model.model import network_of
from cups.model.network_config import stored_architecture
from cups.network import own_classes, split_of, working_size_of
from cups.ops.working_size import Size
from cups.structures import PseudoClasses, ThingStuffSplit

log = logging.getLogger(__name__)

SUFFIXES = {"torchscript": ".ts", "onnx": ".onnx"}
STEM, MODEL_FOLDER = "network", "model"


def export(settings: ExportSettings) -> str:
    """Write what the settings name; return a line for each file or folder.

    Raises:
        UserError: no such checkpoint, a graph that differs from the network, or a folder of something else.
    """
    checkpoint = load_checkpoint(settings.checkpoint, settings.use_teacher)
    model, pseudo = network_of(checkpoint, "cpu", settings.confidence)
    split = split_of(checkpoint, pseudo)
    classes = own_classes(checkpoint, split)
    categories = load_categories(checkpoint.path, pseudo, settings.names, classes)
    size = settings.working_size or working_size_of(checkpoint)
    lines = []
    if "folder" in settings.formats:
        about = describe(checkpoint, split, size)
        card = model_card(about["provenance"], categories, split, size, about["model"])
        names = settings.names or None
        folder = write_model_folder(settings.output / MODEL_FOLDER, checkpoint, about, card, names)
        lines.append(f"{folder}: cups.load opens it; README.md is its model card")
    graphs = [kind for kind in SUFFIXES if kind in settings.formats]
    if graphs:
        if size is None:
            raise UserError(
                f"{checkpoint.path}: does not say at what size it was trained; give `working_size`"
            )
        lines += [_write_graph(settings, model, size, kind) for kind in graphs]
        lines += _write_companions(settings.output, model, categories, pseudo, size, checkpoint)
    return "\n".join(lines)


def describe(checkpoint: Checkpoint, split: ThingStuffSplit, size: Size | None) -> dict[str, Any]:
    """Return the content of `config.json` of a network, without what every folder says."""
    weights = checkpoint.section("model").get("class_weights")
    about: dict[str, Any] = {
        "model": {"architecture": stored_architecture(checkpoint), "class_weights": weights},
        "thing_pseudo_classes": list(split.things),
        "stuff_pseudo_classes": list(split.stuffs),
        "provenance": history_of(checkpoint.provenance),
    }
    if size is not None:
        about["working_size"] = list(size)
    if (classes := checkpoint.hyper_parameters.get("classes")) is not None:
        about["classes"] = classes
    return about


def _write_graph(settings: ExportSettings, model: Any, size: Size, kind: str) -> str:
    path = settings.output / f"{STEM}{SUFFIXES[kind]}"
    difference = write_graph(DeployedNetwork(model), size, path, kind)
    if difference is None:
        return f"{path}: not compared with the network; install onnxruntime to do so"
    return f"{path}: outputs equal the network's to {difference:.1g}"


def _write_companions(
    output: Path,
    model: Any,
    categories: Categories,
    pseudo: PseudoClasses,
    size: Size,
    checkpoint: Checkpoint,
) -> list[str]:
    """Write what a graph needs beside it: how its outputs are merged and named, and the code that does so."""
    if model.combine_snap_to_regions:
        log.warning(
            "%s: its stuff follows the edges of the image, which no graph does; borders are coarser there",
            checkpoint.path,
        )
    about = {
        "input": {"name": INPUT, "shape": [*size, 3], "dtype": "uint8", "channels": "RGB"},
        "outputs": list(OUTPUTS),
        "merge": merge_settings(model),
        "categories": _outputs_by_name(categories, pseudo),
        "provenance": history_of(checkpoint.provenance),
    }
    write_json(output / f"{STEM}.json", about)
    code = Path(postprocess.__file__)
    atomic_write(output / code.name, lambda temporary: shutil.copyfile(code, temporary))
    return [f"{output / STEM}.json, {output / code.name}: names and merge of the graph's outputs, in NumPy"]


def merge_settings(model: Any) -> dict[str, Any]:
    """Return the settings of `cups.deployment.postprocess.panoptic_of` for a network."""
    return {
        "overlap_threshold": model.combine_overlap_thresh,
        "score_threshold": model.combine_instances_score_thresh,
        "stuff_area_fraction": model.combine_stuff_area_fraction,
        "stuff_area_pixels": model.combine_stuff_area_thresh,
        "things_first": model.combine_things_first,
        "semantic_weight": model.combine_semantic_weight,
    }


def _outputs_by_name(categories: Categories, pseudo: PseudoClasses) -> list[dict[str, Any]]:
    """Return name, kind and colour of each category of the merge, stuff first."""
    return [
        {
            "name": categories.names[place],
            "isthing": bool(categories.is_thing[place]),
            "color": categories.colors[place].tolist(),
        }
        for place in categories.table.tolist()
    ]
