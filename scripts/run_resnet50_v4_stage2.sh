#!/usr/bin/env bash
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
about="Stage 2: DINO ResNet-50 on 300 overclusters."
# shellcheck source=scripts/launch.sh
source "$repository/scripts/launch.sh"

launch resnet50_v4 train_cityscapes_resnet50_v4.yaml "$@"
