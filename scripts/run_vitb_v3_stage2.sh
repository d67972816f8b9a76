#!/usr/bin/env bash
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
about="Stage 2: frozen DINOv2 ViT-B/14 on 300 overclusters."
# shellcheck source=scripts/launch.sh
source "$repository/scripts/launch.sh"

launch vitb_v3 train_cityscapes_vitb_v3.yaml "$@"
