#!/usr/bin/env bash
# Kills every training and every step at random moments, resumes it, and compares with an undisturbed run:
# bash scripts/soak.sh [TIMES] [flags of studies/soak.py]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
exec "${VIRTUAL_ENV:-$PWD/.venv}/bin/python" -m studies.soak "$@"
