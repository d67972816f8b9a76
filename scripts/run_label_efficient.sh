#!/usr/bin/env bash
# Label-efficient curve: fine-tuning on 1 % ... 100 % of the ground truth, from our checkpoint and from random weights.
# Given again, it skips what is done. Arguments go to studies/label_efficient.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
exec "${VIRTUAL_ENV:-$PWD/.venv}/bin/python" -m studies.label_efficient "$@"
