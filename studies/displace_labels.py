"""Displace pseudo-labels as a loader does that scales images but crops both: for the ablation of alignment.

A label file of the image's size is cut to the window that lies over the scaled image when both are cropped
around their centres. It then has training size, where our loader leaves labels alone: training sees what
that other loader would have shown, and the fault itself needs no place in the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cups.allowed import within
from cups.errors import UserError, run_main
from pseudo_labels.steps.flags import Settings, flag, parse, settings_of


@dataclass(frozen=True)
class DisplacementSettings(Settings):
    """Labels."""

    pseudo_root: Path = flag(meaning="labels in the CUPS format, of the images' size")
    output_dir: Path = flag(meaning="folder of the displaced labels")
    scale: float = flag(meaning="DATA.SCALE of the training, below 1", allowed=within(above=0, below=1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_dir.resolve() == self.pseudo_root.resolve():
            raise UserError(
                f"`output_dir` {self.output_dir}: holds the labels themselves; give another folder"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the displaced labels."""
    (settings,) = parse(__doc__, argv, DisplacementSettings)
    from cups.io.provenance import write_provenance  # after parsing: --help is quick
    from studies.displacement import displace, label_files

    label_files(settings.pseudo_root)  # none: nothing is written
    write_provenance(
        settings.output_dir,
        script="displace_labels",
        arguments=settings_of(settings),
        inputs=[settings.pseudo_root],
    )
    displace(settings.pseudo_root, settings.output_dir, settings.scale)
    return 0


if __name__ == "__main__":
    run_main(main)
