"""Recording on a Keras backend: a package for each, with the same names in all of them.

The names of the backend in use are attributes of this package, such as `backend.ModelTaps`:

- `reductions`: sums over tensors, with which the formulas of `reszoo.gradients.measures` are
  written. `squares(tensors)` and `fourth_powers(tensors, multiple)` return a vector; `products(x,
  y)`, `total(x)`, `squares_of_sum(x)` or `(x, y)`, `zeros(x)`, `largest(x)`, `elements(x)` and
  `examples(x)` return scalars; `multiplied(sums, factor)` multiplies them;
  `counts_by_exponent(x, first, bins)` a vector. `over_finite(sums, tensors, suffice)` returns
  sums over the finite values, and the numbers of the others; `squares_suffice(sums, tensors)` is
  its default test of whether sums in float32 are accurate.
- `ModelTaps(model, sets, blocks)`: the taps of a model, and the sums that they take.
    - `blocks`, `variables`: the blocks by name, and the weights that are observed
    - `parts`: number of parts of a batch, which the noise scale compares
    - `updates_model`: whether the optimizer of the model counts the batches that ran
    - `writes`: whether this process writes the log
    - `set_due(batches, first)`: the number of batches tried, and the next one to record
    - `recorded(step, asks)`: a step that is recorded whenever the batch is due
    - `update_state()`: whether the update to record has begun, and whether it is over
    - `take()`: all sums and the loss in one transfer, which sets them to zero; the loss is that
      which the pass that all blocks are recorded of started from
- `recorded_fit(model)`: the steps of `fit`, one object for all recorders of a model.
    - `install(training)`, `remove(training)`: begin and end recording, with the model's own
      methods in place again after the last one
    - `taps(sets, blocks)`: `ModelTaps` for a training that is installed, if possible with the
      functions that the last fit traced
    - `trainings`, `executions`: those that are installed, and the number of calls of the function
      that runs batches. It calls `Training`'s methods around each. Where the data ends within a
      call, `fit` gets the error that it expects, and only the batches that ran are counted.
- `batches_applied(model)`: number of batches that the model's optimizer applied, also during `fit`
- `path_gradients(...)`: the gradient by one path at a time; see `reszoo.gradients.path_lengths`
- `compiled(function)`, `value_and_gradients(function, x, ...)`: a function of NumPy arrays; its
  value, and its gradients by its first argument
- `call_with_value(function, x)`: calls a function with the value of a tensor that is computed
  anywhere within a compiled function
- `float64()`: a context in which tensors, and all operations on them, can be float64
- `traced(model, inputs, training)`: the data flow of a model with the layers that call each other;
  `additions`: the functions that add tensors, which a recorded step replaces. Only with them are
  blocks inside of layers found.

They raise `ValueError` on a backend without a recorder.
"""

import importlib
from types import ModuleType
from typing import Any, Protocol

import keras

BACKENDS = ("tensorflow", "jax", "torch")
_NAMES = (
    "ModelTaps",
    "batches_applied",
    "call_with_value",
    "compiled",
    "float64",
    "path_gradients",
    "recorded_fit",
    "reductions",
    "value_and_gradients",
)
# For blocks inside of layers; not on all backends yet.
_NAMES_OF_SOME = ("additions", "traced")


class Training(Protocol):
    """A recorded training, as `recorded_fit` needs it.

    Attributes:
        taps: The `ModelTaps`, once the first batch has begun.
        due: Whether the batch that runs or is about to run is recorded.
    """

    taps: Any

    @property
    def due(self) -> bool: ...

    @property
    def has_alarms(self) -> bool:
        """Whether there are alarms, which may read the model's variables."""
        ...

    @property
    def batches_per_step(self) -> int:
        """Number of batches of an update."""
        ...

    def begin_execution(self, batches_at_once: int) -> None:
        """Decides whether a step is due. Called before batches run."""

    def end_execution(self, batches: int) -> None:
        """Writes the step that was due, if it is over. Called after batches ran."""

    def count_unrecorded(self, batches: int) -> None:
        """Counts batches that ran before anything could be recorded."""

    def count_interrupted(self) -> None:
        """Counts a batch that ran, though the call that ran it was interrupted."""

    def renew_taps(self) -> None:
        """Creates new taps, for a model that was compiled or unfrozen while it trains."""

    def close(self) -> None:
        """Closes the log."""


def running() -> ModuleType:
    """Returns the package of the Keras backend in use.

    Raises:
        ValueError: If there is no recorder for it, or if Keras has changed its backend.

    Example:

    >>> running().__name__
    'reszoo.gradients.backend.tensorflow'
    """
    name = keras.backend.backend()
    # keras.config.set_backend imports Keras again, as another module than the one used here.
    now = importlib.import_module("keras").backend.backend()
    if now != name:
        raise ValueError(
            f"reszoo was imported under the Keras backend {name!r}, but Keras now has {now!r}. Set "
            "the environment variable KERAS_BACKEND before both are imported, and keep to it."
        )
    if name not in BACKENDS:
        raise ValueError(
            f"Gradients cannot be recorded on the Keras backend {name!r}. Set the environment "
            f"variable KERAS_BACKEND to {' or '.join(BACKENDS)} before Keras is imported."
        )
    return importlib.import_module(f"{__name__}.{name}")


def __getattr__(name: str) -> Any:
    if name in (*_NAMES, *_NAMES_OF_SOME):
        module = running()
        if not hasattr(module, name):
            raise ValueError(
                f"This needs {name} of reszoo.gradients.backend, which the Keras backend "
                f"{keras.backend.backend()!r} does not have. Set the environment variable "
                "KERAS_BACKEND=tensorflow before Keras is imported."
            )
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
