from .network import PanopticNetwork as PanopticNetwork
from .network import load as load
from .version import __version__ as __version__
