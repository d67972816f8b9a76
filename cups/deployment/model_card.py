"""The model card of a published network: what it is, what made it, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cups.categories import Categories
from cups.io.markdown import markdown_table
from cups.io.provenance import ground_truth_answer
from cups.ops.working_size import Size
from cups.structures import ThingStuffSplit

_HEAD = """---
library_name: cups
pipeline_tag: image-segmentation
tags:
- panoptic-segmentation
- unsupervised
---
"""


def model_card(
    history: Mapping[str, Any],
    categories: Categories,
    split: ThingStuffSplit,
    size: Size | None,
    model: Mapping[str, Any],
) -> str:
    """Return the card as Markdown.

    Args:
        history: of `cups.deployment.model_folder.history_of`.
        categories: what the outputs are called.
        split: things and stuff.
        size: (H, W) of the training images.
        model: `model` of `config.json`.
    """
    fact = history["uses_ground_truth"]
    named = categories.provenance.get("uses_ground_truth") is not False
    text = _HEAD if fact is False else _HEAD.replace("- unsupervised\n", "")
    trained = "unknown" if size is None else f"{size[0]} x {size[1]}"
    architecture = model["architecture"]
    trunk = architecture.get("MODEL.BACKBONE.NAME", "")
    trunk = (
        architecture["MODEL.VIT.NAME"] if "vit" in trunk else f"ResNet-{architecture['MODEL.RESNETS.DEPTH']}"
    )
    return f"""{text}
# Panoptic segmentation network

A Panoptic Cascade Mask R-CNN on {trunk}, as CUPS trains it (Hahn et al., CVPR 2025).

- Outputs: {len(split.things)} kinds of things, {len(split.stuffs)} of stuff: {_meaning(categories, named)}.
- Images: RGB of any size; it was trained at {trained} pixels (height x width).
- **Ground truth used to train it: {ground_truth_answer(fact)}.**{_names_note(categories, fact)}
- Code version of the training: {history["code_version"]}.

## Use

```python
import cups

network = cups.load("path/to/this/folder")
prediction = network.predict("photo.jpg")
for segment in prediction.segments:
    print(segment.name, segment.isthing, segment.score, segment.area)
```

`model.safetensors` holds the weights and `config.json` plain values: opening the folder runs no code of it.

## What made it

{_steps(history)}

{_weights(history)}{_categories(categories, named)}
"""


def _meaning(categories: Categories, named: bool) -> str:
    if named:
        return f"{len(categories.names)} named categories"
    return "clusters without names, which an evaluation matches to classes"


def _names_note(categories: Categories, fact: bool | None) -> str:
    if categories.provenance.get("uses_ground_truth") is not True or fact is True:
        return ""
    return " The names of its classes were matched on ground truth; they change no prediction."


def _steps(history: Mapping[str, Any]) -> str:
    if not history["steps"]:
        return "Nothing is known of it."
    rows = []
    for step in history["steps"]:
        data = step.get("data", "")
        if "frames" in step:
            data = (
                f"{data} {step.get('split', '')}: {step['frames']} of {step.get('of', '?')} labelled frames"
            )
        rows.append((step["step"], data, ground_truth_answer(step.get("uses_ground_truth"))))
    return markdown_table(rows, ("step, the earliest first", "data", "ground truth used"))


def _weights(history: Mapping[str, Any]) -> str:
    if not history["weights"]:
        return "No other weights went into it."
    columns = ("weights that went into it", "ground truth used", "supervised by", "licence")
    rows = [
        (
            weight["name"],
            ground_truth_answer(weight.get("uses_ground_truth")),
            weight.get("supervised_by", ""),
            weight.get("licence", ""),
        )
        for weight in history["weights"]
    ]
    return markdown_table(rows, columns)


def _categories(categories: Categories, named: bool) -> str:
    """Return the table of names; a hundred numbers tell nobody anything."""
    if not named:
        return ""
    rows = zip(categories.names, categories.is_thing, strict=True)
    table = markdown_table(((name, "thing" if thing else "stuff") for name, thing in rows), ("name", "kind"))
    return f"\n\n## Categories\n\n{table}"
