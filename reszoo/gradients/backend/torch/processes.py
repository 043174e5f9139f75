"""Processes of `torch.distributed` that train one model together."""

import numpy as np
import torch
import torch.distributed


def number_of_processes() -> int:
    """Returns the number of processes, 1 if they are not initialized."""
    distributed = torch.distributed
    are_there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if are_there else 1


def gathered(sums: np.ndarray, device: torch.device) -> np.ndarray:
    """Returns the sums of each process. Every process must call it.

    Args:
        sums: Shape `(sums,)`.
        device: The device that the processes train on.

    Returns:
        Shape `(processes, sums)`.
    """
    if number_of_processes() == 1:
        return sums[None]
    table = np.zeros((number_of_processes(), len(sums)))
    table[torch.distributed.get_rank()] = sums
    everywhere = torch.as_tensor(table, device=device)
    torch.distributed.all_reduce(everywhere)  # which, unlike gathering, every transport has on GPUs
    return everywhere.cpu().numpy()
