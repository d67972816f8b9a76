"""Label-efficient learning: fine-tune on rising shares of ground truth from several starts; draw the curve.

Every training and evaluation that is done is skipped when the command is given again, and a killed training
goes on at its step.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.errors import run_main
from pseudo_labels.steps.flags import parse
from studies.commands import check_streets, run_steps
from studies.label_curve import Curve, CurveSettings, draw, report
from studies.toy_settings import FRAMES


def main(argv: Sequence[str] | None = None) -> int:
    """Run the trainings that are missing, and write the report."""
    (settings,) = parse(__doc__, argv, CurveSettings)
    from cups.io.files import write_text  # after parsing: --help is quick

    curve = Curve(settings)
    if settings.data_root is None:
        check_streets(curve.data, FRAMES, "choose another `output`")
    run_steps(curve.commands(), curve.output / "steps", "labels")
    draw(curve, curve.output / "curve.png")
    text = report(curve)
    write_text(curve.output / "report.md", text)
    print(text)
    print(f"report: {curve.output / 'report.md'}")
    return 0


if __name__ == "__main__":
    run_main(main)
