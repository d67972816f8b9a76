from .cityscapes import CityscapesPanopticValidation as CityscapesPanopticValidation
from .ground_truth import GroundTruthFrames as GroundTruthFrames
from .kitti import KittiPanopticValidation as KittiPanopticValidation
from .pseudo_label_dataset import PseudoLabelDataset as PseudoLabelDataset
from .utils import ImageFolder as ImageFolder
