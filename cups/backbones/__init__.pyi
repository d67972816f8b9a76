from .dino import DinoV3 as DinoV3
from .dino import load_strict as load_strict
from .dino import official_to_timm as official_to_timm
from .names import NAMES as NAMES
from .registry import autocast as autocast
from .registry import build_backbone as build_backbone
from .registry import normalize as normalize
from .registry import untrained_backbone as untrained_backbone
