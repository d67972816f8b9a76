#!/usr/bin/env bash
# The whole pipeline on toy streets: set-up, Stage 1, Stage 2, evaluation, report. Arguments go to studies/demo.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
exec "${VIRTUAL_ENV:-$PWD/.venv}/bin/python" -m studies.demo "$@"
