"""From a folder of images or a video to panoptic predictions, without any label, in one command.

Frames, Stage 1 (labels), Stage 2 and Stage 3 (training), predictions, report.md with pictures. Every step is
remembered and goes on after a kill: give the command again. With --checkpoint nothing is trained.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cups.errors import UserError, run_main
from cups.io.files import read_json, write_json
from cups.io.fingerprint import digest_of
from cups.io.images import frame_names, image_bytes
from cups.io.locking import one_writer
from pseudo_labels.steps.flags import add_flags, make_parser, take
from pseudo_labels.steps.further_flags import ONE_SCRIPT, by_script, joined
from studies.own_data.settings import OwnDataSettings

RUN_FILE = "run.json"
"""Says of which images the steps of a run are."""


def check_claim(settings: OwnDataSettings, images: Sequence[Path]) -> dict[str, Any]:
    """Return what the folder of the run will say of its images.

    Raises:
        UserError: the folder is of other images, or holds something else.
    """
    output = settings.output
    path = output / RUN_FILE
    digest = images_digest(settings.input, images)
    content = {"input": str(settings.input.resolve()), "images": len(images), "digest": digest}
    if path.is_file() and not settings.fresh:
        before = read_json(path, "choose another `output`")
        trains = settings.checkpoint is None or settings.adapt
        if trains and before.get("digest") != digest:
            raise UserError(
                f"{output}: its run is of {before.get('images')} images, {settings.input} has {len(images)} "
                "or others now; choose another `output`, or begin anew with `fresh`"
            )
    elif output.is_dir() and any(output.iterdir()) and not path.is_file():
        raise UserError(f"{output}: holds something else; choose another `output`")
    return content


def images_digest(root: Path, images: Sequence[Path]) -> str:
    """Return a digest of the frames' names and the sizes of their files."""
    return digest_of(list(zip(frame_names(root, images), map(image_bytes, images), strict=True)))


def main(argv: Sequence[str] | None = None) -> int:
    """Plan, look, run, report."""
    parser = make_parser(__doc__)
    parser.prog = "run_own_data.sh"
    add_flags(parser, OwnDataSettings)
    parser.add_argument("--flags", action="append", metavar='SCRIPT "..."', help=ONE_SCRIPT)
    parser.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="overrides of the training config")
    values = parser.parse_intermixed_args(joined(sys.argv[1:] if argv is None else argv))
    settings, further = take(OwnDataSettings, values), by_script(values.flags or ())
    from studies.commands import run_steps  # after parsing: --help is quick
    from studies.own_data.look import look
    from studies.own_data.plan import plan_of
    from studies.own_data.report import write_report
    from studies.own_data.steps import OwnDataRun

    run = OwnDataRun(settings, plan_of(settings), tuple(values.pairs), further)
    claim = check_claim(settings, run.plan.images)
    print(look(run), flush=True)
    if settings.check:
        return 0
    with one_writer(settings.output, "choose another `output`", beside=True):
        if settings.fresh:
            shutil.rmtree(settings.output, ignore_errors=True)
        write_json(settings.output / RUN_FILE, claim)
        records = run_steps(run.commands(), settings.output / "steps", "own data")
        print(f"report: {write_report(run, records)}")
    return 0


if __name__ == "__main__":
    run_main(main)
