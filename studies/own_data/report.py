"""The report of a run on own images: pictures, and measures that need no label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import cups
from cups.errors import as_flags
from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX, SPLIT_FILE, flat_name
from cups.io.files import read_csv, read_json, write_text
from cups.io.images import frame_names, list_images
from cups.io.markdown import markdown_table, percent
from cups.io.png import read_ids, read_image, write_png
from cups.io.provenance import code_version, ground_truth_answer, read_provenance
from cups.io.thing_stuff import read_split
from cups.ops.panoptic import to_panoptic
from cups.ops.panoptic_map import PanopticMap
from cups.structures import ThingStuffSplit
from cups.visualization import depth_to_color, figure_sheet, overlay, pseudo_palette
from pseudo_labels.inputs.labels import read_depth
from pseudo_labels.steps.folders import DEPTH_FOLDER
from pseudo_labels.steps.nothing import evenly_spread
from pseudo_labels.steps.pictures import fit
from studies.measure import StepRecord, machine_line, steps_table
from studies.own_data.look import headline
from studies.own_data.steps import STAGE2, STAGE3, OwnDataRun

SHOWN = 6
"""Images on the sheet."""
SIDE = 960
"""Longest side of an image on the sheet, pixels."""
MEASURES = {
    "label_free/consistency": "agreement of views",
    "label_free/void": "void",
    "label_free/objects_per_image": "objects an image",
}
"""Column of a training's log -> what the report calls it."""


def shown_images(run: OwnDataRun) -> list[tuple[str, Path]]:
    """Return name and file of a few images spread over all that were worked on."""
    folder = run.images if run.trains or run.settings.adapt else run.settings.input
    images = list_images(folder)
    named = list(zip(frame_names(folder, images), images, strict=True))[: run.settings.max_images]
    return evenly_spread(named, SHOWN)


def label_map(run: OwnDataRun, name: str, split: ThingStuffSplit) -> PanopticMap | None:
    """Return category and object of a training label, categories as the network's; None: none."""
    stem = flat_name(name)
    files = [run.output / "labels" / f"{stem}{end}" for end in (SEMANTIC_SUFFIX, INSTANCE_SUFFIX)]
    if not all(file.is_file() for file in files):
        return None
    count = split.pseudo_classes.total
    panoptic = to_panoptic(read_ids(files[0]), read_ids(files[1]), split.things, count)
    category = np.full(max(count, int(panoptic.category.max())) + 1, split.pseudo_classes.void)
    category[list((*split.stuffs, *split.things))] = np.arange(count)
    return panoptic.with_category(category[panoptic.category])


def sheet(run: OwnDataRun) -> np.ndarray:
    """Draw image, depth, label and the networks' maps of a few images."""
    networks = {"prediction": run.checkpoint}
    if run.trains:
        networks = {"Stage 2": run.training.checkpoint(STAGE2), "Stage 3": run.checkpoint}
    opened = {name: cups.load(path) for name, path in networks.items()}
    split = read_split(run.output / "labels" / SPLIT_FILE) if run.trains else None
    with_depth = run.trains and run.plan.depth != "none"
    columns = ["image", *(["depth"] if with_depth else []), *(["pseudo-label"] if split else []), *opened]
    rows, shown = [], shown_images(run)
    for name, path in shown:
        image = read_image(path)
        small = _small(image)
        tiles: list[np.ndarray | None] = [small]
        if with_depth:
            depth = run.output / "stage1" / DEPTH_FOLDER / f"{name}.npy"
            tiles.append(fit(depth_to_color(read_depth(depth)), small) if depth.is_file() else None)
        if split is not None:
            panoptic = label_map(run, name, split)
            palette = pseudo_palette(split.pseudo_classes.total)
            tiles.append(None if panoptic is None else _small(overlay(image, panoptic, palette)))
        tiles += [_small(network.predict(image).overlay(legend=False)) for network in opened.values()]
        rows.append(tiles)
    return figure_sheet(columns, rows, [name for name, _ in shown])


def _small(picture: np.ndarray) -> np.ndarray:
    """Return a picture whose longest side is at most `SIDE`: a sheet of photos would take gigabytes."""
    scale = SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def last_measures(folder: Path) -> dict[str, float]:
    """Return the last value of each of `MEASURES` that a training has logged."""
    found: dict[str, float] = {}
    for path in sorted(folder.glob("csv/version_*/metrics.csv")):
        for row in read_csv(path, "train again"):
            found |= {name: float(row[name]) for name in MEASURES if row.get(name)}
    return found


def measures_table(run: OwnDataRun) -> str:
    """Return what the trainings measured on images held out, without labels, as Markdown."""
    rows = []
    for name, folder in (("Stage 2", STAGE2), ("Stage 3", STAGE3)):
        found = last_measures(run.output / folder)
        if found:
            consistency, void, objects = (found.get(key, float("nan")) for key in MEASURES)
            rows.append((name, percent(consistency), percent(void), f"{objects:.1f}"))
    return markdown_table(rows, ("network", *MEASURES.values())) if rows else "No training was run."


def prediction_facts(folder: Path) -> str:
    """Return what the predictions hold, in a sentence."""
    content = read_json(folder / "panoptic.json", "predict again")
    thing = {category["id"]: bool(category["isthing"]) for category in content["categories"]}
    segments = [part for entry in content["annotations"] for part in entry["segments_info"]]
    objects = sum(thing[part["category_id"]] for part in segments)
    count = max(1, len(content["annotations"]))
    return (
        f"{len(content['annotations'])} images; {objects / count:.1f} objects and "
        f"{(len(segments) - objects) / count:.1f} regions of stuff an image."
    )


def write_report(run: OwnDataRun, records: Sequence[StepRecord]) -> Path:
    """Write `report.md` and `figure.png` into the folder of the run; return the report's path."""
    output = run.output
    write_png(output / "figure.png", sheet(run))
    provenance = read_provenance(output / "labels") or {}
    notes = "\n".join(f"- {as_flags(note)}" for note in run.plan.notes) or "- Nothing was assumed."
    labels = (
        f"Training labels used ground truth: **{ground_truth_answer(provenance.get('uses_ground_truth'))}** "
        "(`labels/provenance.json`).\n"
        if run.trains
        else f"Predicted with `{run.checkpoint}`.\n"
    )
    text = f"""# Own images

{headline(run)}. {code_version()}, seed {run.settings.seed}.
{labels}
![image, labels, networks](figure.png)

The same colour is the same pseudo-class, in all columns. Pseudo-classes have no names: nobody has labelled
anything. A lighter or darker shade is another object.

## What was decided

{notes}

## Predictions

{prediction_facts(output / "predictions")} They lie in `predictions/`: `panoptic.json` with its PNG files
(COCO panoptic format), and overlays.

## Without labels

{measures_table(run)}

Measured on images held out of the training. None of it says how right a map is. Agreement is between
views of one image in several sizes and mirrored: it falls where the network guesses. Much void, or no
objects, shows that something went wrong.

## Time and memory

{steps_table(records)}

{machine_line()}. Peak memory is that of a step's largest process.
"""
    path = output / "report.md"
    write_text(path, text)
    return path
