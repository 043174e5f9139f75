"""Networks described by groups of options, any of which a call may change for one model."""

import dataclasses
import difflib
from typing import Any, ClassVar, Self

import keras

from reszoo.layers import DropPath, LearnedScale


@dataclasses.dataclass(frozen=True)
class Regularization:
    """The layers at the end of a branch that regularize it.

    Attributes:
        drop_path: Share of the examples that drop the last block's branch while training, in
            `[0, 1)`.
        branch_scale: Start of the learned scale, or `None` for none.
    """

    drop_path: float = 0.0
    branch_scale: float | None = None

    def check(self) -> None:
        """Checks that the drop path is a share.

        Raises:
            ValueError: If `drop_path` is not in `[0, 1)`.
        """
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path must be in [0, 1), but got {self.drop_path!r}.")

    def layers(self, block: int, blocks: int) -> list[keras.layers.Layer]:
        """Returns the learned scale and the drop path of a branch, or one of them, or none.

        Args:
            block: Number of the block in the network, from 1.
            blocks: Number of blocks in the network; the drop path rises linearly up to the last.

        Example:

        >>> [layer.name for layer in Regularization(0.1, branch_scale=0.0).layers(1, 8)]
        ['scale', 'drop_path']
        """
        layers = []
        if self.branch_scale is not None:
            layers.append(LearnedScale(self.branch_scale, name="scale"))
        if self.drop_path:
            layers.append(DropPath(self.drop_path * block / blocks, name="drop_path"))
        return layers


class Description:
    """A network described by groups of options; calling it makes the `keras.Model`.

    Attributes:
        groups: The groups, dataclasses by the names of the attributes that hold them.
    """

    groups: ClassVar[dict[str, type]] = {}

    def __init__(self, name: str, description: str, **options: Any):
        self.name = name
        self.description = description
        owners = {
            field.name: attribute
            for attribute, group in self.groups.items()
            for field in dataclasses.fields(group)
        }
        for option in options:
            if option not in owners:
                near = difflib.get_close_matches(option, owners) or list(owners)
                raise ValueError(f"{name} has no option {option!r}. Did you mean: {near}?")
        for attribute, group in self.groups.items():
            of_group = {key: value for key, value in options.items() if owners[key] == attribute}
            setattr(self, attribute, group(**of_group))

    def __call__(self, **changes: Any) -> keras.Model:
        """Makes a model of the network.

        Args:
            **changes: Any options, with their values for this model.

        Returns:
            A functional `keras.Model`.

        Raises:
            ValueError: If there is no such option, or one is out of range.
        """
        described = self.variant(**changes)
        described._check()
        return described._model()

    def _check(self) -> None:
        raise NotImplementedError

    def _model(self) -> keras.Model:
        raise NotImplementedError

    @property
    def options(self) -> dict[str, Any]:
        """All options by name, with their values; `name` and `description` are the first."""
        options = {"name": self.name, "description": self.description}
        for attribute in self.groups:
            options |= vars(getattr(self, attribute))
        return options

    def variant(self, **changes: Any) -> Self:
        """Returns a description with some options changed.

        Args:
            **changes: Options by name, `name` and `description` among them.

        Raises:
            ValueError: If there is no such option.
        """
        return type(self)(**{**self.options, **changes})


def logits(num_classes: int, use_bias: bool = True) -> keras.layers.Layer:
    """Returns the last layer of a network, in float32 also under mixed precision.

    Args:
        num_classes: Number of logits.
        use_bias: Whether a bias is added.

    Example:

    >>> logits(10).name
    'logits'
    """
    dtype = keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")
    return keras.layers.Dense(num_classes, use_bias=use_bias, dtype=dtype, name="logits")
