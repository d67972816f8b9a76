from .cityscapes import CityscapesPanopticValidation as CityscapesPanopticValidation
from .described import DescribedPanopticValidation as DescribedPanopticValidation
from .ground_truth import GroundTruthFrames as GroundTruthFrames
from .kitti import KittiPanopticValidation as KittiPanopticValidation
from .pseudo_label_dataset import PseudoLabelDataset as PseudoLabelDataset
from .utils import ImageFolder as ImageFolder
from .validation_sets import classes_of_set as classes_of_set
from .validation_sets import open_validation_set as open_validation_set
