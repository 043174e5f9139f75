"""Statistics of gradients and weights, in float64, with NumPy alone."""

import numpy as np


class StepByHand(dict):
    """Statistics of a step: block to name to value. Beside them is its `loss`."""

    def __init__(self, loss, of_blocks):
        super().__init__(of_blocks)
        self.loss = float(loss)


def expected_statistics(skip, branch, output):
    """Returns path statistics of three gradients, in float64, with NumPy alone."""
    skip, branch, output = (g.astype(np.float64).ravel() for g in (skip, branch, output))
    norms = {
        "skip_gradient_norm": np.linalg.norm(skip),
        "branch_gradient_norm": np.linalg.norm(branch),
        "input_gradient_norm": np.linalg.norm(skip + branch),
        "output_gradient_norm": np.linalg.norm(output),
    }
    together = norms["skip_gradient_norm"] * norms["branch_gradient_norm"]
    return {
        **norms,
        "skip_branch_cosine": skip @ branch / together if together else np.nan,
        "skip_share": norms["skip_gradient_norm"]
        / (norms["skip_gradient_norm"] + norms["branch_gradient_norm"]),
        "gradient_gain": norms["input_gradient_norm"] / norms["output_gradient_norm"],
        "skip_gradient_rms": norms["skip_gradient_norm"] / np.sqrt(skip.size),
        "output_gradient_rms": norms["output_gradient_norm"] / np.sqrt(output.size),
    }


def expected_weight_statistics(block, weights):
    """Returns the norms of a block's weights: `weights` has values, gradients and updates by id."""
    of_block = [weights[id(variable)] for variable in block.trainable_variables]
    norms = [
        np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays))
        for arrays in zip(*of_block, strict=True)
    ]
    return dict(zip(("weight_norm", "weight_gradient_norm", "update_norm"), norms, strict=True))
