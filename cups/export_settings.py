"""What exporting a network can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cups.allowed import CROP, FRACTION, quoted, refuse_impossible
from cups.defaults import CONFIDENCE_THRESHOLD
from cups.errors import UserError

FORMATS = ("folder", "torchscript", "onnx")
"""folder: `model.safetensors`, `config.json`, a model card; `cups.load` opens it. The others are graphs."""
LIMITS = {"confidence": FRACTION, "working_size": CROP}


@dataclass(frozen=True)
class ExportSettings:
    """Settings of `scripts/export.py`.

    Attributes:
        checkpoint: the network.
        output: folder of everything that is written.
        formats: some of `FORMATS`.
        confidence: lowest score of an object in a graph, 0-1.
        use_teacher: of a self-training checkpoint, take the averaged teacher.
        working_size: (H, W) of the images that a graph takes; None as the checkpoint says.
        names: file of class names; None takes those beside the checkpoint, if any.

    Raises:
        UserError: a value that is not possible.
    """

    checkpoint: Path
    output: Path
    formats: tuple[str, ...] = ("folder", "torchscript")
    confidence: float = CONFIDENCE_THRESHOLD
    use_teacher: bool = False
    working_size: tuple[int, int] | None = None
    names: Path | None = None

    def __post_init__(self) -> None:
        refuse_impossible(self, LIMITS)
        if self.names is not None and self.names.suffix != ".json":
            raise UserError(
                f"`names` {quoted(str(self.names))}: must be the JSON that `save_names` of val.py writes"
            )
        if unknown := [kind for kind in self.formats if kind not in FORMATS]:
            raise UserError(f"`formats` {quoted(unknown[0])}: unknown; choose from {', '.join(FORMATS)}")
