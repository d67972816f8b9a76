from .overlap import overlap_table as overlap_table
from .panoptic_quality import PanopticQualitySemanticMatching as PanopticQualitySemanticMatching
from .scored_rows import ScoredRows as ScoredRows
from .semantic import ConfusionMatrix as ConfusionMatrix
from .semantic import SemanticQuality as SemanticQuality
from .semantic import mapped_confusion as mapped_confusion
from .semantic import semantic_quality as semantic_quality
from .video_quality import VideoQualitySemanticMatching as VideoQualitySemanticMatching
