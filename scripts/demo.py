#!/usr/bin/env python3
"""Run the pipeline end to end on toy streets: Stage 1, Stage 2, evaluation, report.

Finished steps are remembered, so a killed demo goes on where it was; --fresh starts over.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from cups.errors import run_main
from cups.reporting import StepRecord, run_measured
from scripts.demo_report import write_report

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "demo_toy.yaml"
K = 40
SEMANTICS = f"pseudo_semantic_raw_k{K}"
