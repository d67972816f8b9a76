#!/usr/bin/env python3
"""Export a trained network: a folder for model hubs, and graphs that run without this project.

Writes OUTPUT/model/ (model.safetensors, config.json, README.md; cups.load opens it), and OUTPUT/network.ts or
network.onnx with network.json and postprocess.py. docs/deployment.md says what each holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from cups.allowed import read_path
from cups.config import make_parser
from cups.defaults import CONFIDENCE_THRESHOLD
from cups.errors import run_main
from cups.export_settings import FORMATS, ExportSettings
from cups.prediction_settings import read_size


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=read_path, required=True, help="of our trainings, or published by CUPS")
    add("--output", type=read_path, required=True, help="folder of the results")
    add(
        "--formats",
        nargs="+",
        choices=FORMATS,
        default=["folder", "torchscript"],
        help="what is written (default: folder torchscript)",
    )
    add("--confidence", type=float, default=CONFIDENCE_THRESHOLD, help="of objects, at least (%(default)s)")
    add("--use_teacher", action="store_true", help="the averaged teacher of a self-training checkpoint")
    add("--working_size", type=read_size, metavar="HxW", help="of a graph's images (default: stored)")
    add("--names", type=read_path, help="class names, JSON (default: CHECKPOINT.names.json, if any)")
    arguments = vars(parser.parse_args(argv))
    settings = ExportSettings(**arguments | {"formats": tuple(arguments["formats"])})
    from cups.builders.deployment import export

    print(export(settings))
    return 0


if __name__ == "__main__":
    run_main(main)
