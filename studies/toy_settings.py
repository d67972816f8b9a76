"""Settings of every study on toy streets: networks and trainings that fit two processor cores."""

from __future__ import annotations

from cups.io.file_names import CUPS_FOLDER
from pseudo_labels.settings.outlines import LEAST_AREA
from pseudo_labels.steps.folders import raw_semantics
from pseudo_labels.steps.stage1 import ROOT

CONFIG = ROOT / "configs" / "demo_toy.yaml"
FRAMES = (300, 150)
"""Training and validation frames. On 20 validation frames a difference of 2 points of PQ may be their choice
alone (`cups.metrics.bootstrap`); a frame takes a third of a second to render."""
STEPS = 1800
"""Of Stage 2 in the reports: half as many again as in the demo, which has to end soon."""
LABELS = CUPS_FOLDER
CLUSTERS = 120
OVERCLUSTERS = raw_semantics(CLUSTERS)
REGIONS = ("--features", "context", "--regions")
"""Clusters of features with their surroundings, region by region."""
MIN_AREA = LEAST_AREA["log"]
"""Of instances, the default: pixels of a 512-row image."""
PROPOSALS: dict[str, tuple[str, ...]] = {
    "disparity": (),
    "learned": (),
    "trained": ("--proposals", "things"),
}
"""Kinds of the demo's depth, and the flags that turn each into instances: what a network learns in a demo's
minutes is too blurred to propose objects, as the default has it."""
TOY_DEPTH = ROOT / "refs" / "spidepth" / "toy"
"""Weights of the depth network that learned from video of another toy city (`studies.train_toy_depth`)."""
SMALL_HEADS = (
    *("--codebook_steps", "150", "--head_steps", "200", "--probe_steps", "150", "--batch_size", "8"),
    *("--codebook_size", "256", "--projection_dim", "128", "--hidden_dim", "128"),
)
"""CAUSE heads that train in a minute on two cores."""
TOY_DEPTH_NETWORK = (
    *("--height", "192", "--width", "384", "--crop_bottom", "0", "--min_depth", "0.5"),
    *("--backbone", "test_resnet", "--dec_channels", "64", "48", "32", "24", "--model_dim", "24"),
    *("--patch_size", "12", "--query_nums", "16", "--dim_out", "16", "--feedforward", "128"),
    *("--pose_backbone", "test_resnet", "--pose_scale", "0.25", "--batch_size", "4", "--lr", "5e-4"),
)
"""A depth network of a million weights for toy streets."""
SHORT_DEPTH_TRAINING = ("--loss_strides", "4", "4", "2", "2", "--steps", "400")
"""Its training in minutes on two cores: street and large vehicles, blurred."""
LONG_DEPTH_TRAINING = ("--loss_strides", "4", "4", "2", "2", "1", "1", "1", "1", "--steps", "8000")
"""Its training in hours: that of the network in `refs/spidepth/toy`."""
SMALL_DINOSAUR = (
    *("--num_slots", "16", "--slot_dim", "64", "--decoder_dim", "256"),
    *("--steps", "300", "--batch_size", "8", "--lr", "1e-3"),
)
"""Slots that train in minutes on two cores."""
SMALL_REFINE_NET = ("--crop", "384", "--batch_size", "4", "--steps", "100")
"""A RefineNet that trains in minutes on two cores."""
