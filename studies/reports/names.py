"""Names of the reports, in the order in which they are made."""

from __future__ import annotations

NAMES = (
    "stage_1_report",
    "cause_tr_refinement",
    "overclustered_spidepth_sweep",
    "stage2_spatial_alignment_fix",
    "stage3_self_training",
    "cups_ablations",
)
