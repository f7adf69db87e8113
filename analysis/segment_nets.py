"""The segmenters of segment.py that train in its own loop: name -> a net, x [N,3,H,W] in 0..1 to logits [N,1,H,W].
All but unet-small are those of segmentation_models_pytorch, with encoders of timm."""
import warnings

import torch
from segment_small import SmallUNet
from torch import nn

# name: (class there, encoder); the four that a study of 512 x 512 trains, nnunet being the other
LIBRARY = {"upernet": ("UPerNet", "resnet50"),
           "deeplabv3plus": ("DeepLabV3Plus", "resnet50"),
           "upernet-swin": ("UPerNet", "tu-swin_tiny_patch4_window7_224")}
NAMES = ("unet-small", *LIBRARY)


class MissingPackage(Exception):
    """Something to install; the message says what."""


class Standardised(nn.Module):
    """What the encoders were trained on: minus ImageNet's mean, by its deviation."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x):
        return self.net((x - self.mean) / self.std)


def make(name, size, weights="none"):
    """A function without arguments that makes the net; size: H, W of the pictures; weights: none or imagenet
    (downloaded by timm)."""
    if name == "unet-small":
        return SmallUNet
    family, encoder = LIBRARY[name]
    try:
        import segmentation_models_pytorch as smp
    except ImportError as e:
        raise MissingPackage(f"segmenter {name}: {e}; pip install segmentation-models-pytorch") from e
    if not hasattr(smp, family):
        raise MissingPackage(f"segmenter {name}: segmentation_models_pytorch {smp.__version__} has no {family}; "
                             "pip install -U segmentation-models-pytorch")
    more = {"img_size": size} if "swin" in encoder else {}  # its windows are cut for one size

    def net():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Standardised(getattr(smp, family)(
                encoder, encoder_weights=None if weights == "none" else weights, classes=1, **more))
    return net
