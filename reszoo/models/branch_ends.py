"""What may follow the last layer of a branch."""

import keras

from reszoo.layers import DropPath, LearnedScale


def end_of_branch(branch_scale: float | None, drop_path: float) -> list[keras.layers.Layer]:
    """Returns the learned scale and the drop path of a branch, those of them that it has.

    Args:
        branch_scale: Start of the learned scale, or `None` for none.
        drop_path: Share of the examples that drop the branch while training.

    Example:

    >>> [layer.name for layer in end_of_branch(0.0, drop_path=0.1)]
    ['scale', 'drop_path']
    """
    layers = []
    if branch_scale is not None:
        layers.append(LearnedScale(branch_scale, name="scale"))
    if drop_path:
        layers.append(DropPath(drop_path, name="drop_path"))
    return layers


def check_drop_path(share: float) -> None:
    """Makes sure that a drop path is a share.

    Args:
        share: Share of the examples that drop the last branch while training.

    Raises:
        ValueError: If it is not in `[0, 1)`.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"drop_path is in [0, 1), but got {share!r}.")
