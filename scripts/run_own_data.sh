#!/usr/bin/env bash
# From your own images or video to panoptic predictions: Stage 1, Stage 2, Stage 3, predictions, report. See --help.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -z ${VIRTUAL_ENV:-} && -x $repository/.venv/bin/python ]]; then
  python=$repository/.venv/bin/python
else
  python=python
fi
export PYTHONPATH=$repository${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m studies.own_data.run "$@"
