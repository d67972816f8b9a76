"""Look for defects in a folder in the CUPS format before training on it: exit code 1 if there are any.

Checks that every image has its semantic and instance file, that they can be read, fit each other and their
image, that ids are in range, that the `.pt` statistics agree with the files and give things and stuff, and
that label borders lie on image edges: the mean edge strength under the borders, moved by every offset, must
be largest where they are. Writes a report (.md), all numbers (.json) and a map of the offsets (.png). Reads
no ground truth.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.settings.scoring import DiagnosisSettings
from pseudo_labels.steps.flags import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the diagnosis; 1 if there is a defect."""
    (settings,) = parse(__doc__, argv, DiagnosisSettings)
    from pseudo_labels.scoring.diagnosis import diagnose_folder  # after parsing: --help is quick

    report, defects = diagnose_folder(settings)
    print(report)
    return 1 if defects else 0


if __name__ == "__main__":
    run_main(main)
