#!/usr/bin/env bash
# Install everything into .venv (or the active virtual environment). Safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

D2_VERSION=0.6
D2_SHA256=5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29
D2_OFFICIAL=git+https://github.com/facebookresearch/detectron2.git

usage() {
  cat <<'TEXT'
usage: bash scripts/setup.sh [--official-detectron2] [--help]

Makes .venv with python3 (or ${PYTHON}), or uses the virtual environment that is active,
and installs requirements.txt, this project (editable) and detectron2.

  --official-detectron2   install the head of the official repository (needs internet and a compiler)
                          instead of the pure-Python modules of release 0.6 (default)
TEXT
}

official=false
for argument in "$@"; do
  case "$argument" in
    --official-detectron2) official=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown option '$argument'; see bash scripts/setup.sh --help" >&2; exit 2 ;;
  esac
done

step() { printf '\n[setup %s/4] %s\n' "$1" "$2"; }

step 1 "virtual environment"
if [[ -z "${VIRTUAL_ENV:-}" ]]; then
  [[ -x .venv/bin/python ]] || "${PYTHON:-python3}" -m venv .venv
  export VIRTUAL_ENV="$PWD/.venv"
fi
python="$VIRTUAL_ENV/bin/python"
"$python" - <<'PY' || { echo "setup.sh: needs Python 3.10, 3.11 or 3.12; set PYTHON=python3.11 and run again" >&2; exit 2; }
import sys
sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
PY
echo "using $VIRTUAL_ENV"

# The stamp makes a second run cheap: it names everything that decides what gets installed.
stamp="$VIRTUAL_ENV/.cups-setup"
want="$(cat requirements.txt requirements_cups.txt pyproject.toml scripts/setup.sh | sha256sum | cut -d' ' -f1) $official"
if [[ -f "$stamp" && "$(cat "$stamp")" == "$want" ]]; then
  echo "already installed; remove $stamp to install again"
  exit 0
fi
rm -f "$stamp"

step 2 "packages (torch is several GB: minutes on a first run)"
# pip 26 refuses the metadata of the detectron2 archive.
"$python" -m pip install --quiet --upgrade 'pip>=23,<26' 'setuptools>=65,<81' wheel
bar=on
[[ -t 1 ]] || bar=off
"$python" -m pip install --progress-bar "$bar" -r requirements.txt | grep -v 'already satisfied' || true
"$python" -c 'import torch, torchvision, pytorch_lightning, cv2' || {
  echo "setup.sh: a required package did not install; see the messages above" >&2
  exit 2
}

step 3 "detectron2"
if $official; then
  "$python" -m pip install --quiet --no-build-isolation "$D2_OFFICIAL"
else
  build="$(mktemp -d)"
  trap 'rm -rf "$build"' EXIT
  # The archive's setup.py imports torch, hence after torch and without build isolation.
  "$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: \
    --dest "$build" "pb1-detectron2==$D2_VERSION"
  "$python" scripts/build_detectron2_wheel.py "$build"/*detectron2-*.tar.gz \
    --sha256 "$D2_SHA256" --output "$build/wheel"
  "$python" -m pip install --quiet --no-deps --force-reinstall "$build"/wheel/detectron2-*.whl
fi

step 4 "this project"
"$python" -m pip install --quiet --no-deps --no-build-isolation --editable .
"$python" -c 'import cups'
echo "$want" >"$stamp"
echo "done: $("$python" -c 'import torch, detectron2; print("torch", torch.__version__, "| detectron2", detectron2.__version__)')"
