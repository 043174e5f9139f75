"""Processes of `torch.distributed` that train one model together."""

import torch
import torch.distributed


def number_of_processes() -> int:
    """Returns the number of processes, 1 if they are not initialized."""
    distributed = torch.distributed
    are_there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if are_there else 1


def gathered(sums: torch.Tensor) -> torch.Tensor:
    """Returns the sums of each process. Every process must call it.

    Args:
        sums: Shape `(sums,)`.

    Returns:
        Shape `(processes, sums)`.
    """
    if number_of_processes() == 1:
        return sums[None]
    table = torch.zeros((number_of_processes(), len(sums)), dtype=sums.dtype, device=sums.device)
    table[torch.distributed.get_rank()] = sums
    torch.distributed.all_reduce(table)  # which, unlike gathering, every transport has on a GPU
    return table
