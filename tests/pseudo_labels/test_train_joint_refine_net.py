"""Training of JointRefineNet: what it needs besides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cups.errors import UserError
from cups.io.png import write_png


def test_train_joint__needs_instances(refinement: Any) -> None:
    with pytest.raises(UserError, match=r"pseudo_instance_none: no such folder"):
        refinement.train("--instance_subdir", "pseudo_instance_none", joint=True)
    path = refinement.root.file("pseudo_instance_depth_guided_mapped_k300", f"{refinement.root.stems[0]}.png")
    write_png(path, np.zeros((64, 100), np.uint16))
    with pytest.raises(UserError, match=r"64x100 has not the shape"):
        refinement.train(joint=True)
