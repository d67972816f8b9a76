"""Networks of SPIdepth: U-Net features, self-query depth decoder, pose."""

from refs.spidepth.networks.depth_decoder import SelfQueryDecoder
from refs.spidepth.networks.pose import PoseNet
from refs.spidepth.networks.unet import UNet

__all__ = ["PoseNet", "SelfQueryDecoder", "UNet"]
