#!/usr/bin/env bash
# Stage 1: from the images of a Cityscapes root to pseudo-labels in the CUPS format. See --help.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  cat <<'TEXT'
usage: bash scripts/run_stage1.sh --cityscapes_root DIR [options] [further flags]

Runs Stage 1 step by step, printing each command: backbone features, CAUSE-TR semantics, overclusters, depth,
instances, CUPS format. Every step resumes, so a killed run is simply started again.

  --cityscapes_root DIR   folder that holds leftImg8bit/ (or set CITYSCAPES_ROOT)
  --output_root DIR       where features, labels and networks go (the Cityscapes root)
  --split NAME            train, val, test, train_extra or all (train)
  --backbone NAME         features of the semantics (dinov2_vitb14); texton needs no weights
  --num_workers N         processes of each step (2)
  --executor NAME         local or slurm, for the steps that go through the images one by one
  --num_shards N          parts into which these steps split the images (1)
  --k50                   raw clusters, k = 50, and a thing/stuff split without labels, instead of k = 300
                          clusters named by CAUSE's classes
  --refine                train RefineNet on the semantics and go on with the refined ones
  --dinosaur              instances by DINOSAUR slot attention on DINOv3 features instead of by depth
                          (on textons with --backbone texton)
  --depth NAME            spidepth, or disparity: from the stereo disparity/ of Cityscapes (spidepth)
  --train                 train the CAUSE heads and the depth network first, without labels, instead of
                          loading published checkpoints (with --k50: their clusters have no names)
  --flags SCRIPT "..."    flags for one script only, e.g. --flags train_cause "--batch_size 32"
  --dry_run               print the commands, run nothing
  -h, --help              this text

Further flags go to every step, e.g. --device cuda, --max_images 8.
The published CAUSE heads have seen labels (refs/weights.yaml); --k50 --train does without any.
TEXT
}

fail() { echo "run_stage1.sh: $1" >&2; exit 2; }

root=${CITYSCAPES_ROOT:-} output= split=train backbone=dinov2_vitb14 num_workers=2 depth=spidepth
k50=false refine=false dinosaur=false train=false dry_run=false
declare -A only=()
further=() shards=()

value() { [[ $# -ge 2 && $2 != --* ]] || fail "$1: needs a value"; }

while [[ $# -gt 0 ]]; do
  case "$1" in
    --cityscapes_root) value "$@"; root=$2; shift 2 ;;
    --output_root) value "$@"; output=$2; shift 2 ;;
    --split) value "$@"; split=$2; shift 2 ;;
    --backbone) value "$@"; backbone=$2; shift 2 ;;
    --num_workers) value "$@"; num_workers=$2; shift 2 ;;
    --executor | --num_shards) value "$@"; shards+=("$1" "$2"); shift 2 ;;
    --depth) value "$@"; depth=$2; shift 2 ;;
    --k50) k50=true; shift ;;
    --refine) refine=true; shift ;;
    --dinosaur) dinosaur=true; shift ;;
    --train) train=true; shift ;;
    --flags) [[ $# -ge 3 ]] || fail "--flags: needs a script's name and its flags"
             only[${2%.py}]=$3; shift 3 ;;
    --dry_run) dry_run=true; shift ;;
    -h | --help) usage; exit 0 ;;
    *) further+=("$1"); shift ;;
  esac
done
[[ -n $root ]] || fail "--cityscapes_root: missing; give the folder that holds leftImg8bit/, or set CITYSCAPES_ROOT"
$dry_run || [[ -d $root/leftImg8bit ]] || fail "$root: holds no leftImg8bit/; give the root of Cityscapes"
! $train || $k50 || fail "--train: clusters of our own CAUSE heads have no names; add --k50"
output=${output:-$root}

if [[ -z ${VIRTUAL_ENV:-} && -x $repository/.venv/bin/python ]]; then
  python=$repository/.venv/bin/python
else
  python=python
fi

# step SCRIPT FLAGS...: print the command, run it.
step() {
  local script=$1
  shift
  local -a mine
  read -r -a mine <<<"${only[$script]:-}"
  # A network trains on all images, statistics count all of them: only what works image by image is split.
  [[ $script == train_* || $script == c* ]] || mine=("${shards[@]}" "${mine[@]}")
  local -a command=("$python" "$repository/pseudo_labels/$script.py" --cityscapes_root "$root"
    --output_root "$output" "$@"
    --num_workers "$num_workers" "${mine[@]}" "${further[@]}")
  printf '+'
  printf ' %q' "${command[@]}"
  printf '\n'
  $dry_run || "${command[@]}"
}

semantics=pseudo_semantic_mapped_k300 instances=pseudo_instance_depth_guided
labels=cups_pseudo_labels classes=(--trainid_input)
if $k50; then
  semantics=pseudo_semantic_raw_k50 labels=cups_pseudo_labels_k50 classes=(--num_semantic_classes 50)
fi

step extract_dinov2_features --split "$split" --backbone "$backbone"
if $train; then step train_cause --split train --backbone "$backbone"; fi
step generate_semantic_pseudolabels_cause --split "$split" --backbone "$backbone"
if $k50; then
  step generate_overclustered_semantics --split "$split" --backbone "$backbone" --k 50 --raw
else
  step generate_overclustered_semantics --split "$split" --backbone "$backbone" --k 300
fi
network=()
if $train && [[ $depth == spidepth ]]; then
  network=(--checkpoint_dir "$output/spidepth")
  step train_spidepth --split train "${network[@]}"
fi
step generate_depth_spidepth --split "$split" --source "$depth" "${network[@]}"
if $k50; then step classify_stuff_things --split train --semantic_subdir "$semantics"; fi
if $refine; then
  step train_refine_net --split train --semantic_subdir "$semantics" --features_subdir "features_$backbone"
  step generate_refined_semantics --split "$split" --checkpoint "$output/refine_net/refine_net.pth"
  semantics=pseudo_semantic_refined_${semantics#pseudo_semantic_}
fi
if $dinosaur; then
  instances=pseudo_instance_dinosaur
  slot_backbone=texton
  if [[ $backbone != texton ]]; then
    slot_backbone=dinov3_vitb16
    step extract_dinov3_features --split "$split" --backbone "$slot_backbone"
  fi
  step train_dinosaur --split train --backbone "$slot_backbone"
  step generate_dinosaur_instances --split "$split" --semantic_subdir "$semantics"
else
  step generate_depth_guided_instances --split "$split" --semantic_subdir "$semantics"
fi
step convert_to_cups_format --split "$split" --semantic_subdir "$semantics" --instance_subdir "$instances" \
  "${classes[@]}" --output_dir "$output/$labels"
