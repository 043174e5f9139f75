"""Memory of freed tensors: on a CPU, TensorFlow keeps it for the next ones, if it is told to."""

from collections.abc import MutableMapping

_KEEPS, _LIMIT = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"


def keep_freed_memory(environment: MutableMapping[str, str]) -> None:
    """Lets TensorFlow keep the memory of freed tensors, unless the environment has a choice.

    It does so by itself with oneDNN. Without, large tensors go back to the system, which clears the
    same memory again at the next step. TensorFlow reads both variables when it first looks for its
    devices.

    Args:
        environment: The variables of the process's environment.

    Example:

    >>> environment = {}
    >>> keep_freed_memory(environment)
    >>> environment["TF_CPU_ALLOCATOR_USE_BFC"]
    '1'
    """
    if _KEEPS not in environment:
        environment[_KEEPS] = "1"
        # By default it then refuses to hold more than 64 GiB, whatever the machine has.
        environment.setdefault(_LIMIT, str(2**24))
