# shellcheck shell=bash
# What the launch scripts share; source it. The caller sets `about` (text of --help) and `repository`, and may
# set `runner` (how it is started) and `launcher` (what starts its processes).
: "${about:?}" "${repository:?}" "${runner:=bash}"
name=$(basename "${BASH_SOURCE[1]}")
[[ -v launcher ]] || launcher=()

usage() {
  cat <<TEXT
usage: DATA_ROOT=DIR PSEUDO_ROOT=DIR $runner scripts/$name [flags of train.py] [KEY VALUE ...]

$about

Variables:
  DATA_ROOT     Cityscapes root: leftImg8bit/, and gtFine/ for validation (required)
  PSEUDO_ROOT   pseudo-labels in the CUPS format (required)
  NUM_GPUS      GPUs per node (the config's number; halve --accumulate_grad when you double it)
  LOG_PATH      folder of all runs (experiments)
  RUN_NAME      folder of this run inside it ($run_name); a run that exists is resumed
  WANDB         1 sends logs to Weights & Biases (local files only)
  DRY_RUN       1 prints the command and runs nothing

Further flags go to the training script and win over the variables, e.g. --batch_size 2 --steps 4000.
TEXT
}

fail() { echo "$name: $1" >&2; exit 2; }

require() {
  [[ -n ${!1:-} ]] || fail "$1: not set; give $2, as in $1=DIR $runner scripts/$name"
  [[ ${DRY_RUN:-0} == 1 || -d ${!1} ]] || fail "${!1}: no such folder; check $1"
}

# train CONFIG FLAGS...: train with configs/CONFIG, or print the command.
train() {
  local config=$repository/configs/$1
  shift
  require DATA_ROOT "the Cityscapes root"
  require PSEUDO_ROOT "the folder of pseudo-labels"
  local python=python
  if [[ -z ${VIRTUAL_ENV:-} && -x $repository/.venv/bin/python ]]; then
    python=$repository/.venv/bin/python
  fi
  local -a command=("${launcher[@]}" "$python" "$repository/train.py" --experiment_config_file "$config"
    --data_root "$DATA_ROOT" --pseudo_root "$PSEUDO_ROOT"
    --log_path "${LOG_PATH:-experiments}" --run_name "$run_name" --resume_if_possible)
  [[ -z ${NUM_GPUS:-} ]] || command+=(--num_gpus "$NUM_GPUS")
  [[ ${WANDB:-0} == 1 ]] || command+=(--disable_wandb)
  command+=("$@")
  printf '+'
  printf ' %q' "${command[@]}"
  printf '\n'
  [[ ${DRY_RUN:-0} == 1 ]] || exec "${command[@]}"
}

# launch RUN CONFIG FLAGS...: --help, or training under RUN_NAME (RUN where it is not set).
launch() {
  run_name=${RUN_NAME:-$1}
  local config=$2 flag
  shift 2
  for flag in "$@"; do
    if [[ $flag == -h || $flag == --help ]]; then usage; exit 0; fi
  done
  train "$config" "$@"
}
