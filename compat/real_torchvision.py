"""Imports torchvision whichever build of it pip found.

A torchvision that was built for another build of torch has no compiled detection ops. Its ResNets need none, but its import asks that they be declared.
"""
import torch

try:
    import torchvision
except RuntimeError:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d", "_roi_align_backward", "_roi_pool_backward"):
        try:
            library.define(name + "(Tensor a) -> Tensor")
        except RuntimeError:
            pass
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision

__all__ = ["torchvision"]
