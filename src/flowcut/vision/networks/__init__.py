"""Networks that give scores, and ties between pixels where a head asks for them."""

from flowcut.vision.networks.basic_cnn import BasicCnn
from flowcut.vision.networks.build import NETWORKS, build_network
from flowcut.vision.networks.two_head_unet import TwoHeadUnet
from flowcut.vision.networks.unet3d import Unet3d

__all__ = ["NETWORKS", "BasicCnn", "TwoHeadUnet", "Unet3d", "build_network"]
