"""Convert ground truth to the CUPS training format: the oracle that bounds what Stage 2 can reach.

For checking the machinery only; the folder's provenance says that it uses ground truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import NAME
from cups.errors import run_main
from pseudo_labels.steps.flags import Settings, flag, parse, settings_of


@dataclass(frozen=True)
class OracleSettings(Settings):
    """Labels."""

    cityscapes_root: Path = flag(meaning="folder with leftImg8bit and gtFine")
    output_dir: Path = flag(meaning="flat folder of the labels")
    split: str = flag("train", "split to convert", allowed=NAME)
    num_classes: int = flag(19, "classes of the labels", choices=(19, 27))


def convert(settings: OracleSettings) -> None:
    """Write the labels with provenance and statistics."""
    import numpy as np
    from tqdm import tqdm

    from cups.data.cityscapes import list_ground_truth_frames, read_panoptic_target
    from cups.io.file_names import INSTANCE_SUFFIX, SEMANTIC_SUFFIX, SPLIT_FILE
    from cups.io.files import write_json
    from cups.io.png import write_png
    from cups.io.provenance import write_provenance
    from cups.taxonomy import class_set
    from pseudo_labels.algorithms.cups_format import STATISTICS_FILE, statistics_on_disk, write_statistics

    classes, output = class_set(settings.num_classes), settings.output_dir
    frames = list_ground_truth_frames(settings.cityscapes_root, settings.split)
    write_provenance(
        output,
        script="ground_truth_to_cups",
        arguments=settings_of(settings),
        inputs=[settings.cityscapes_root / "gtFine"],
        uses_ground_truth=True,
    )
    for frame in tqdm(frames, desc="convert", unit="img"):
        target = read_panoptic_target(frame.label_ids, frame.instance_ids, classes)
        write_png(output / f"{frame.stem}{SEMANTIC_SUFFIX}", target.categories.astype(np.uint8))
        write_png(output / f"{frame.stem}{INSTANCE_SUFFIX}", target.instances.astype(np.uint16))
    write_statistics(output / STATISTICS_FILE, statistics_on_disk(output, settings.num_classes))
    split = {"things": classes.things, "stuffs": classes.stuffs, "uses_ground_truth": True}
    write_json(output / SPLIT_FILE, split)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the labels."""
    (settings,) = parse(__doc__, argv, OracleSettings)
    convert(settings)
    return 0


if __name__ == "__main__":
    run_main(main)
