"""Stage 1: instance masks from the slots of DINOSAUR, inside the thing classes of a semantic folder.

A slot may hold several objects far apart, and stuff too: each slot is cut by the thing classes and split into
connected components.
"""

from __future__ import annotations

from collections.abc import Sequence

from pseudo_labels.settings.dinosaur import SlotInstanceSettings
from pseudo_labels.steps.executor import run_script
from pseudo_labels.steps.options import NetworkRun, parse_step


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step."""
    source, run, settings = parse_step(__doc__, argv, NetworkRun, SlotInstanceSettings)
    from pseudo_labels.generators.slot_instances import make_slot_instances  # after parsing: --help is quick

    make_slot_instances(source, settings, run)
    return 0


if __name__ == "__main__":
    run_script(main)
