"""The version of this package; it stands in `pyproject.toml`."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("unsupervised-panoptic-segmentation")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"
