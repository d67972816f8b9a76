"""Reading and writing files needs no network library: a script's `--help` must not wait for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = (
    "cups.errors",
    "cups.taxonomy",
    "cups.visualization",
    "cups.class_files",
    "cups.set_files",
    "cups.io.coco_panoptic",
    "cups.io.file_names",
    "cups.io.files",
    "cups.io.images",
    "cups.io.locking",
    "cups.io.markdown",
    "cups.io.png",
    "cups.io.provenance",
    "cups.io.shipped",
    "cups.io.weights",
)
STEPS = (
    "pseudo_labels.generators.instances",
    "pseudo_labels.generators.overclusters",
    "pseudo_labels.generators.panoptic",
    "pseudo_labels.generators.train_ids",
)
"""Steps that need no network, or only with some settings: its libraries take longer to load than they run."""
NETWORK_STEPS = (
    "pseudo_labels.generators.cause_semantics",
    "pseudo_labels.generators.depth",
    "pseudo_labels.generators.features",
    "pseudo_labels.generators.refined",
    "pseudo_labels.generators.slot_instances",
)
"""Steps that run a network, and train none."""
ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "scipy", "sklearn", "torchvision", "pytorch_lightning", "detectron2", "matplotlib")
NOT_TORCH = HEAVY[1:]
NO_SCORES = ("sklearn", "pytorch_lightning", "torchmetrics", "matplotlib")
"""What `predict.py` does without."""


def printed_by(code: str) -> str:
    """Return what code prints in a Python that has imported nothing yet."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [(LIGHT, HEAVY), (STEPS, HEAVY), (NETWORK_STEPS, NOT_TORCH), (("cups.builders.prediction",), NO_SCORES)],
    ids=["light", "steps", "network steps", "prediction"],
)
def test_light_modules__import_no_heavy_library(modules: tuple[str, ...], heavy: tuple[str, ...]) -> None:
    assert all((ROOT / Path(*name.split("."))).with_suffix(".py").is_file() for name in modules)
    code = f"import sys, {', '.join(modules)}; print(sorted(set(sys.modules) & set({heavy})))"
    assert printed_by(code) == "[]"


def test_sizes_of_networks__are_compared_without_the_compiler() -> None:
    """A sum or product on the meta device loads torch's compiler, which takes nearly as long as torch."""
    code = """if True:
        import sys, torch
        from pseudo_labels.joint_refine_net import JointRefineNet
        from pseudo_labels.networks.dinosaur import Dinosaur
        from pseudo_labels.refine_net import CSCMRefineNet
        from refs.cause import Cluster, SegmentTR
        with torch.device("meta"):
            SegmentTR(32, 8, 16, 5, 9, 16), Cluster(32, 8, 16, 5), Dinosaur(32, (4, 6), 3, 16, 32)
            CSCMRefineNet(32, 5), JointRefineNet(32, 5)
        print("torch._dynamo" in sys.modules)
    """
    assert printed_by(code) == "False"
