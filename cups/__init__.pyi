from .network import PanopticNetwork as PanopticNetwork
from .network import load as load
from .ops.panoptic_map import PanopticMap as PanopticMap
from .version import __version__ as __version__
