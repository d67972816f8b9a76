#!/usr/bin/env bash
#SBATCH --job-name=stage2
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=10
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
set -euo pipefail
# SLURM runs a copy of this file from its spool folder.
repository=${REPOSITORY:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
runner=sbatch
about="Stage 2 on a SLURM cluster, one task per GPU. Two minutes before its time is over the training is saved and
the job queued again; it goes on from there, and so does another submission with the same RUN_NAME.
Submit from the repository. Flags of sbatch before the script win over those inside it: sbatch --nodes 4 ...

  CONFIG        file in configs/ (train_cityscapes.yaml)
  REPOSITORY    the checkout (the folder that the job was submitted from)"
[[ -f $repository/scripts/launch.sh ]] || {
  echo "run_stage2_slurm.sh: $repository: no checkout; submit from the repository, or set REPOSITORY" >&2
  exit 2
}
launcher=(srun)
# shellcheck source=scripts/launch.sh
source "$repository/scripts/launch.sh"

export NUM_GPUS=${SLURM_NTASKS_PER_NODE:-1}
config=${CONFIG:-train_cityscapes.yaml}
# Not after the job: one that is submitted anew after a time limit goes on with the same run.
run=$(basename "${config%.yaml}")
launch "stage2_${run#train_}" "$config" \
  SYSTEM.NUM_NODES "${SLURM_JOB_NUM_NODES:-1}" "$@"
