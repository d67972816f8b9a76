"""Our own implementation of SPIdepth's networks; see `refs/SOURCES.md`."""

from refs.spidepth.SQLdepth import SQLDepth

__all__ = ["SQLDepth"]
