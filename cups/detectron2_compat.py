"""Make detectron2 importable without its C++ extension.

Release 0.6 is the last one on the package index. Its Python modules need two things that today's libraries
no longer give (or that a build without a compiler does not have): the extension `detectron2._C`, of which
this project uses nothing, and the constant `PIL.Image.LINEAR`, dropped by Pillow 10. `prepare` supplies
both; with the official repository's head, built in full, it changes nothing.
"""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from cups.errors import UserError

MISSING = (
    "detectron2 is not installed: the panoptic network (cups.model, training and evaluation) needs it; "
    "run `bash scripts/setup.sh`"
)


class Detectron2MissingError(UserError, ImportError):
    """detectron2 is not installed. Entry scripts turn it into one line, like every `UserError`."""


class _MissingExtension(ModuleType):
    """Stands in for `detectron2._C`: importable, but using anything of it says what is missing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"detectron2._C.{name} needs detectron2's C++ extension, which the default set-up does not "
            "build; run `bash scripts/setup.sh --official-detectron2`"
        )


def is_installed() -> bool:
    """Whether a detectron2 package can be found (it is not imported)."""
    return find_spec("detectron2") is not None


def prepare() -> None:
    """Call before the first import of a detectron2 module. Safe to call again.

    Raises:
        Detectron2MissingError: if detectron2 is not installed.
    """
    if not is_installed():
        raise Detectron2MissingError(MISSING)
    _supply_pillow_constant()
    _supply_extension()
    # Notices about release 0.6's own lines, which users of this project can do nothing about.
    warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated", category=Warning)
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)


def _supply_pillow_constant() -> None:
    from PIL import Image

    if not hasattr(Image, "LINEAR"):
        setattr(Image, "LINEAR", Image.Resampling.BILINEAR)  # noqa: B010 (the stubs do not know it)


def _supply_extension() -> None:
    if "detectron2._C" in sys.modules or find_spec("detectron2._C") is not None:
        return
    import detectron2

    stub = _MissingExtension("detectron2._C")
    sys.modules["detectron2._C"] = stub
    setattr(detectron2, "_C", stub)  # noqa: B010
