#!/usr/bin/env bash
# Oracle check: Stage 2 trained on toy ground truth. It shows what the machinery reaches with perfect labels.
# Arguments go to studies/check_ceiling.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
exec "${VIRTUAL_ENV:-$PWD/.venv}/bin/python" -m studies.check_ceiling "$@"
