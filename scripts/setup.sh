#!/usr/bin/env bash
# Install everything into .venv (or the active virtual environment). Safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

D2_VERSION=0.6
D2_SHA256=5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29
D2_OFFICIAL=git+https://github.com/facebookresearch/detectron2.git
CANDIDATES=(python3 python3.12 python3.11 python3.10)

usage() {
  cat <<'TEXT'
usage: bash scripts/setup.sh [--official-detectron2] [--help]

Makes .venv with python3 (or ${PYTHON}), or uses the virtual environment that is active,
and installs requirements.txt, this project (editable) and detectron2. A .venv of a Python that
does not fit, or that is broken, is made anew. Needs Python 3.10, 3.11 or 3.12.

  --official-detectron2   install the head of the official repository (needs internet and a compiler)
                          instead of the pure-Python modules of release 0.6 (default)
TEXT
}

fail() { echo "setup.sh: $*" >&2; exit 2; }

official=false
for argument in "$@"; do
  case "$argument" in
    --official-detectron2) official=true ;;
    -h | --help) usage; exit 0 ;;
    *) fail "unknown option '$argument'; see bash scripts/setup.sh --help" ;;
  esac
done

step() { printf '\n[setup %s/4] %s\n' "$1" "$2"; }

# The version of a Python, as in 3.11; fails where it does not run.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { [[ "$1" == 3.1[012] ]]; }

# Print the first Python that fits. Later ones are refused, not tried: detectron2's modules are untested there.
choose_python() {
  local candidate version seen=
  [[ -z "${PYTHON:-}" ]] || CANDIDATES=("$PYTHON")
  for candidate in "${CANDIDATES[@]}"; do
    version=$(version_of "$candidate") || continue
    if fits "$version"; then echo "$candidate"; return; fi
    seen+="$candidate is Python $version; "
  done
  [[ -n "$seen" ]] || seen="no ${CANDIDATES[0]} that runs; "
  fail "${seen}needs Python 3.10, 3.11 or 3.12: install one, then run PYTHON=python3.12 bash scripts/setup.sh"
}

# Run pip. What it says is shown; where it fails, its last lines stand at the end and the set-up stops.
run_pip() {
  "$python" -m pip --disable-pip-version-check "$@" 2>&1 | tee "$log" |
    { grep -v 'already satisfied' || true; } || {
    echo "setup.sh: pip $1 failed; its last lines:" >&2
    tail -n 8 "$log" >&2
    exit 2
  }
}

step 1 "virtual environment"
if [[ -n "${VIRTUAL_ENV:-}" ]]; then
  python="$VIRTUAL_ENV/bin/python"
  version=$(version_of "$python") || fail "$VIRTUAL_ENV: is active and its Python does not run; deactivate it"
  fits "$version" || fail "$VIRTUAL_ENV: is active and has Python $version; deactivate it, or activate one of 3.10 to 3.12"
  "$python" -c 'import pip' 2>/dev/null || fail "$VIRTUAL_ENV: has no pip; run $python -m ensurepip, or deactivate it"
else
  export VIRTUAL_ENV="$PWD/.venv"
  python="$VIRTUAL_ENV/bin/python"
  wrong=
  if [[ -e .venv || -L .venv ]]; then
    if ! version=$(version_of "$python"); then
      wrong="its Python does not run"
    elif ! fits "$version"; then
      wrong="it has Python $version"
    elif ! "$python" -c 'import pip' 2>/dev/null; then
      wrong="it has no pip"
    fi
  fi
  if [[ -n "$wrong" || ! -e .venv ]]; then
    chosen=$(choose_python)
    [[ -z "$wrong" ]] || echo ".venv: $wrong; made anew with $chosen"
    rm -rf .venv
    "$chosen" -m venv .venv || {
      rm -rf .venv
      fail "$chosen -m venv: failed; on Debian and Ubuntu, apt install python3-venv and run again"
    }
  fi
fi
echo "using $VIRTUAL_ENV"

# The stamp makes a second run cheap: it names everything that decides what gets installed, and from where.
stamp="$VIRTUAL_ENV/.cups-setup"
want="$(cat requirements.txt requirements_cups.txt pyproject.toml setup.py scripts/setup.sh | sha256sum | cut -d' ' -f1)"
want="$want $official $PWD"
if [[ -f "$stamp" && "$(cat "$stamp")" == "$want" ]]; then
  echo "already installed; remove $stamp to install again"
  exit 0
fi
rm -f "$stamp"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
log="$work/pip.log"

step 2 "packages and this project (torch is several GB: minutes on a first run)"
# pip 26 refuses the metadata of the detectron2 archive.
run_pip install --quiet --upgrade 'pip>=23,<26' 'setuptools>=77,<81' wheel
run_pip install -r requirements.txt

step 3 "detectron2"
if $official; then
  run_pip install --quiet --no-build-isolation "$D2_OFFICIAL"
else
  # The archive's setup.py imports torch, hence after torch and without build isolation.
  run_pip download --quiet --no-deps --no-build-isolation --no-binary :all: \
    --dest "$work" "pb1-detectron2==$D2_VERSION"
  "$python" scripts/build_detectron2_wheel.py "$work"/*detectron2-*.tar.gz \
    --sha256 "$D2_SHA256" --output "$work/wheel" || exit 2
  run_pip install --quiet --no-deps --force-reinstall "$work"/wheel/detectron2-*.whl
fi

step 4 "dense CRF (optional), check"
"$python" -m pip install --quiet --disable-pip-version-check --editable '.[crf]' >"$log" 2>&1 ||
  echo "the dense CRF was not built (no C++ compiler?); everything else works. To try again: pip install '.[crf]'"
"$python" -c 'import torch, torchvision, pytorch_lightning, cv2, cups' ||
  fail "an installed package does not import; see the lines above"
echo "$want" >"$stamp"
echo "done: $("$python" -c 'import torch, detectron2; print("torch", torch.__version__, "| detectron2", detectron2.__version__)')"
