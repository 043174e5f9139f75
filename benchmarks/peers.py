"""Peers that the benchmarks compare with, where they are installed."""

import importlib.util


def import_torchvision():
    """Returns the package, also where its CPU build is installed without its dependencies.

    That build registers shapes for operators that it does not contain, and cannot be imported until
    these are defined. Any other build defines them itself.
    """
    import torch

    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_torchvision.library = library  # which lives as long as its definitions
        import torchvision
    return torchvision
