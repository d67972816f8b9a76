#!/usr/bin/env bash
# Fetch the published checkpoints of refs/weights.yaml to where the code looks for them. See --help.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  cat <<'TEXT'
usage: bash scripts/download_checkpoints.sh [--list] [--only NAME...] [--root DIR] [--table FILE]

Downloads the checkpoints listed in refs/weights.yaml. A killed download goes on where it was; files that are
there are kept (and compared with their sha256 where the publisher gives one). What is published behind a
licence form or on a page of links is not attempted: the script says how to get it and where to put it.

  --list         show names, places and what is there already; download nothing
  --only NAME…   these checkpoints only (without it: all but those marked optional)
  --root DIR     folder below which the files go (the repository)
  --table FILE   another list of checkpoints (refs/weights.yaml)
TEXT
}

fail() { echo "error: $*" >&2; exit 2; }

list=false root=$repository table=$repository/refs/weights.yaml
only=()
while (($#)); do
  case "$1" in
    --list) list=true; shift ;;
    --root | --table)
      (($# > 1)) || fail "$1: needs a value"
      declare "${1#--}=$2"; shift 2 ;;
    --only)
      shift
      while (($#)) && [[ "$1" != --* ]]; do only+=("$1"); shift; done
      ((${#only[@]})) || fail "--only: needs names; see --list" ;;
    -h | --help) usage; exit 0 ;;
    *) fail "$1: unknown option; see bash scripts/download_checkpoints.sh --help" ;;
  esac
done

python=${VIRTUAL_ENV:-$repository/.venv}/bin/python
[[ -x "$python" ]] || python=python3
"$python" -c "import yaml" 2>/dev/null || fail "$python: has no PyYAML; run bash scripts/setup.sh first"
[[ -f "$table" ]] || fail "$table: no such file; give the list of checkpoints with --table"

# One line per file: name, place, link, sha256, optional or needed, how to get it; fields that do not apply hold "-".
files=$("$python" - "$table" "${only[@]}" <<'PY'
import sys

import yaml

table, only = yaml.safe_load(open(sys.argv[1])), sys.argv[2:]
unknown = [name for name in only if name not in table]
if unknown:
    sys.exit(f"error: --only {unknown[0]}: unknown; choose from {', '.join(table)}")
for name in only or table:
    entry = table[name]
    for file in entry["files"]:
        how = f"{entry['source']}: {entry['how']}" if "how" in entry else entry["source"]
        optional = "optional" if entry.get("optional") and not only else "needed"
        print(name, file["path"], file["url"] or "-", file["sha256"] or "-", optional, how, sep="\t")
PY
) || exit 2

# 0: file $1 has the sha256 $2, or none is known
matches() { [[ "$2" == - ]] || echo "$2  $1" | sha256sum --check --status; }

# Download $1 to $2, continuing $2.part; check the sha256 $3.
fetch() {
  local part=$2.part
  mkdir -p "$(dirname "$2")"
  local status=0
  curl --fail --location --retry 3 --progress-bar --continue-at - --output "$part" "$1" || status=$?
  if ((status == 33 || status == 36)); then  # the server cannot continue a download: from the start
    rm -f "$part"
    status=0
    curl --fail --location --retry 3 --progress-bar --output "$part" "$1" || status=$?
  fi
  if ((status)); then
    echo "error: $1: download failed (curl $status); run the same command again to continue" >&2
    return 1
  fi
  if ! matches "$part" "$3"; then
    rm -f "$part"
    echo "error: $1: sha256 is not $3; removed, run the same command again" >&2
    return 1
  fi
  mv "$part" "$2"
}

failed=0
while IFS=$'\t' read -r name place url sha256 optional how; do
  target=$root/$place
  if [[ -f "$target" ]]; then
    if matches "$target" "$sha256"; then
      echo "$name: $place is there"
    else
      echo "error: $target: sha256 is not $sha256; remove the file and run the same command again" >&2
      failed=1
    fi
  elif [[ "$url" == - ]]; then
    echo "$name: by hand, to $place — $how"
  elif [[ "$optional" == optional ]]; then
    echo "$name: optional, with --only $name"
  elif $list; then
    echo "$name: missing, $place from $url"
  else
    echo "$name: $url -> $place"
    fetch "$url" "$target" "$sha256" || failed=1
  fi
done <<<"$files"
exit $failed
