#!/usr/bin/env bash
# Lint, types and tests; sets everything up first. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/setup.sh
export PATH="${VIRTUAL_ENV:-$PWD/.venv}/bin:$PATH"

echo "[test 1/3] ruff"
ruff check .
ruff format --check .
echo "[test 2/3] mypy"
mypy
echo "[test 3/3] pytest"
# Programs that the tests start would each compile the project where Python may not store what it compiles.
python -m compileall -q cups pseudo_labels refs studies
# One thread a worker: on few cores, more would only fight.
OMP_NUM_THREADS=1 WANDB_MODE=disabled python -m pytest -n "$(nproc)" --dist loadfile --no-loadscope-reorder "$@"
