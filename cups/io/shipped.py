"""The configs that come with the package: beside it in a checkout, inside it when it is installed."""

from __future__ import annotations

from pathlib import Path

import cups

_PACKAGE = Path(cups.__file__).parent
FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")
"""Where an installed package and a checkout hold `configs/*.yaml`."""


def find_config(path: Path) -> Path:
    """Return the path, or, where it is the mere name of no file here, the config of that name.

    So `train_cityscapes.yaml` works from any folder. A path that nothing is found for comes back as it is.
    """
    if path.exists() or path.parent != Path():
        return path
    return next((folder / path for folder in FOLDERS if (folder / path).is_file()), path)
