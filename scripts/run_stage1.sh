#!/usr/bin/env bash
# Stage 1: from the images of a Cityscapes root to pseudo-labels in the CUPS format. See --help.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -z ${VIRTUAL_ENV:-} && -x $repository/.venv/bin/python ]]; then
  python=$repository/.venv/bin/python
else
  python=python
fi
exec "$python" "$repository/pseudo_labels/pipeline.py" "$@"
