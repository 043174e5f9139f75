"""Packages that are not installed: what to type."""


def without_tensorflow(what: str) -> str:
    """Returns the message of an error where TensorFlow is needed and cannot be imported.

    Args:
        what: A clause that ends before "with TensorFlow".

    Example:

    >>> print(without_tensorflow("reszoo.data reads images"))
    reszoo.data reads images with TensorFlow, which cannot be imported. Install it, and all that
    goes with it, with pip install 'reszoo[tensorflow]'.
    """
    return (
        f"{what} with TensorFlow, which cannot be imported. Install it, and all that goes with it, "
        "with pip install 'reszoo[tensorflow]'."
    )
