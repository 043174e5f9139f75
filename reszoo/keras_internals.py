"""Private names of Keras, TensorFlow and JAX, with one function for each.

Written for Keras 3.15 and TensorFlow 2.21; `setup.py` sets the upper bounds. For another version
run `pytest tests/test_keras_internals.py`, which fails with the name that has changed. TensorFlow
is imported by the functions that need it, so that layers and models run without it.
"""

import contextlib
import copy
import functools
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras.src.backend.common import dtypes, global_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

if TYPE_CHECKING:
    import tensorflow as tf

# The method by which a functional model runs its operations, of `keras.Function`.
RUN_THROUGH_GRAPH = "_run_through_graph"
# The function of `torch.autograd` that makes every backward pass, by whichever public name.
RUN_BACKWARD = "_engine_run_backward"
# Functions of `torch` that take a list of tensors, and run few kernels for all of them on a GPU.
NORM_OF_EACH = "_foreach_norm"
MULTIPLY_EACH = "_foreach_mul"
SUBTRACT_FROM_EACH = "_foreach_sub_"
# The method of a model on JAX to which its `make_train_function` gives the compiled step.
MAKE_FUNCTION = "_make_function"
# Names of the classes of activation functions, those of operations and of layers.
_ACTIVATIONS = frozenset(
    (
        "Relu",
        "ReLU",
        "Relu6",
        "Elu",
        "ELU",
        "Selu",
        "Celu",
        "Gelu",
        "Silu",
        "HardSilu",
        "LeakyRelu",
        "LeakyReLU",
        "PReLU",
        "Sigmoid",
        "HardSigmoid",
        "LogSigmoid",
        "Softmax",
        "LogSoftmax",
        "Softplus",
        "Softsign",
        "Tanh",
        "HardTanh",
        "Glu",
        "Sparsemax",
        "Squareplus",
        "MultiHeadAttention",
        "GroupedQueryAttention",
        "Attention",
    )
)
# Of operations of TensorFlow, the attributes that name the functions they call.
_CALLED_BY = {
    "PartitionedCall": ("f",),
    "StatefulPartitionedCall": ("f",),
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "While": ("body",),
    "StatelessWhile": ("body",),
}
# Names of the classes of operations whose result has no gradient by any of their tensors.
_WITHOUT_GRADIENT = frozenset(
    (
        "StopGradient",
        "ZerosLike",
        "OnesLike",
        "FullLike",
        "Sign",
        "Round",
        "Floor",
        "Ceil",
        "Argmax",
        "Argmin",
        "Shape",
    )
)


def sublayers(layer: Any, recursive: bool = True) -> list[keras.layers.Layer]:
    """Returns the layers that a layer holds, each once.

    Relies on `Layer._flatten_layers`. The public `Model.layers` omits the layers of nested models,
    and only models have it.

    Args:
        layer: A layer; for any other operation the list is empty.
        recursive: Whether layers inside its layers are included.
    """
    if not isinstance(layer, keras.layers.Layer):
        return []
    return list(layer._flatten_layers(include_self=False, recursive=recursive))


def nodes_in_order(function: keras.Function) -> Iterator[Any]:
    """Yields the calls of operations in a functional model, in the order in which Keras runs them.

    Relies on `Function._nodes_by_depth`, and on the node's `operation`, `arguments` (with `args`,
    `kwargs` and `fill_in`), `input_tensors`, `outputs` and `is_input`.

    Args:
        function: A functional model.
    """
    nodes = function._nodes_by_depth
    for depth in sorted(nodes, reverse=True):
        yield from (node for node in nodes[depth] if not node.is_input)


def run_through_graph(
    function: keras.Function,
    inputs: Any,
    operation_fn: Callable[[keras.Operation], Callable],
    call_fn: Callable | None = None,
) -> Any:
    """Runs the operations of a functional model, as `RUN_THROUGH_GRAPH` of its class does.

    Relies on `Function._run_through_graph`: that `Function.call` and `Functional.call` find it on
    the instance, and that it asks for each operation in the order of `nodes_in_order`.

    Args:
        function: A functional model.
        inputs: Any structure of tensors.
        operation_fn: A function of an operation that returns the callable to run in its place.
        call_fn: A function of that callable and its arguments that calls it; `None` for a plain
            call.
    """
    return keras.Function._run_through_graph(function, inputs, operation_fn, call_fn)


def runs_its_graph(layer: Any) -> bool:
    """Returns whether a layer is a functional model whose call runs its graph, and nothing else.

    Relies on `Functional` of `keras.src.models.functional`.

    Args:
        layer: Any layer or model.
    """
    from keras.src.models.functional import Functional

    return isinstance(layer, Functional) and type(layer).call is Functional.call


def runs_in_turn(layer: Any) -> bool:
    """Returns whether a layer is a sequential model whose call runs its layers, and nothing else.

    Relies on `Sequential._functional`, which is `None` while the shapes are not known.

    Args:
        layer: Any layer or model.
    """
    sequential = keras.Sequential
    is_plain = isinstance(layer, sequential) and type(layer).call is sequential.call
    return is_plain and layer._functional is not None


def is_addition(operation: keras.Operation) -> bool:
    """Returns whether an operation adds tensors: `keras.layers.Add`, `keras.ops.add` or `+`.

    Relies on the class name `Add` of the operation behind the last two.

    Args:
        operation: An operation of a functional model.
    """
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, keras.layers.Add)
    return type(operation).__name__ == "Add"


def is_subtraction(operation: keras.Operation) -> bool:
    """Returns whether an operation subtracts a tensor from another.

    Relies on the class name `Subtract` of the operation behind `keras.ops.subtract` and `-`.

    Args:
        operation: An operation of a functional model.
    """
    if isinstance(operation, keras.layers.Layer):
        return isinstance(operation, keras.layers.Subtract)
    return type(operation).__name__ == "Subtract"


def is_activation(operation: keras.Operation) -> bool:
    """Returns whether an operation is an activation function, or a layer that ends in one.

    Relies on the class names of the operations of `keras.ops`, and on the attribute `activation`.

    Args:
        operation: An operation, or any layer.
    """
    if type(operation).__name__ in _ACTIVATIONS:
        return True
    activation = getattr(operation, "activation", None)
    return callable(activation) and activation is not keras.activations.linear


def passes_gradients(operation: keras.Operation) -> bool:
    """Returns whether an operation passes gradients at all.

    Relies on the class names of the operations of `keras.ops`.

    Args:
        operation: An operation of a functional model.
    """
    return type(operation).__name__ not in _WITHOUT_GRADIENT


def is_concatenation(operation: keras.Operation) -> bool:
    """Returns whether an operation is `keras.layers.Concatenate` or `keras.ops.concatenate`.

    Relies on the class name `Concatenate` of the operation behind the latter.

    Args:
        operation: An operation of a functional model.
    """
    return type(operation).__name__ == "Concatenate"


def is_product(operation: keras.Operation) -> bool:
    """Returns whether an operation is `keras.layers.Multiply`, `keras.ops.multiply` or `*`.

    Relies on the class name `Multiply` of the operation behind the last two.

    Args:
        operation: An operation of a functional model.
    """
    return type(operation).__name__ == "Multiply"


def is_stack(operation: keras.Operation) -> bool:
    """Returns whether an operation is `keras.ops.stack`.

    Relies on the class name `Stack` of the operation.

    Args:
        operation: An operation of a functional model.
    """
    return type(operation).__name__ == "Stack"


def adds_what_it_is_given(operation: keras.Operation) -> bool:
    """Returns whether an operation adds up tensors, or parts of one, in another way than `Add`.

    Relies on the class names of the operations behind `keras.ops.sum`, `mean` and `average`.

    Args:
        operation: An operation of a functional model.
    """
    return type(operation).__name__ in ("Average", "Mean", "Sum")


def multiplies_tensors(operation: keras.Operation) -> bool:
    """Returns whether an operation is a product that may add up parts of a tensor.

    Relies on the class names of the operations behind `keras.ops.einsum` and the like.

    Args:
        operation: An operation of a functional model.
    """
    return type(operation).__name__ in ("Dot", "Einsum", "Matmul", "Tensordot")


@contextlib.contextmanager
def results_in_float64() -> Iterator[None]:
    """Context in which operations on float64 tensors return float64 on every backend.

    Relies on `BIT64_TO_BIT32_DTYPE` of `keras.src.backend.common.dtypes`, which has the dtype of
    their result: on JAX and PyTorch it is float32.
    """
    before = dtypes.BIT64_TO_BIT32_DTYPE["float64"]
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    try:
        yield
    finally:
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = before


def hand_on_mask(source: Any, target: Any) -> Any:
    """Returns a tensor with the mask, if any, of another tensor with the same values.

    Relies on `get_keras_mask` and `set_keras_mask` of `keras.src.backend.common.masking`: the mask
    is in the attribute `_keras_mask`, or, for a tensor of JAX, in a dictionary.

    Args:
        source: The tensor that may have a mask.
        target: The tensor that gets it.
    """
    mask = get_keras_mask(source)
    if mask is not None:
        set_keras_mask(target, mask)
    return target


def train_function_of(model: keras.Model, step: Callable) -> Callable:
    """Returns a train function of `fit` on JAX: it runs batches of an iterator.

    Relies on `JAXTrainer._make_function`, whose result runs as many as the model's
    `steps_per_execution`, or fewer where the data ends.

    Args:
        model: A compiled model.
        step: Takes a state and a batch, and returns outputs and the new state.
    """
    return getattr(model, MAKE_FUNCTION)(step)


def scalar_vjp() -> tuple[Any, str]:
    """Returns the module and the name of the function that `jax.grad` differentiates with.

    Relies on `jax._src.api.vjp`, which `jax.value_and_grad` and `jax.grad` look up when they run.
    """
    return importlib.import_module("jax._src.api"), "vjp"


def restore_in_fit(model: keras.Model, state: Sequence[Any]) -> None:
    """Has `fit` on JAX give the model's variables their values when an error ends it.

    Relies on `JAXTrainer._jax_state`, which `fit` assigns to the variables at its end. While
    batches run they have no values, and where the first batch fails `fit` leaves them without.

    Args:
        model: The model that `fit` trains.
        state: Values of its trainable, other, optimizer's and metrics' variables.
    """
    names = ("trainable", "non_trainable", "optimizer", "metrics")
    values = zip(names, state, strict=True)
    model._jax_state = {f"{name}_variables": of_kind for name, of_kind in values}


def batch_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns the variable in which an optimizer counts the batches that it applied.

    Relies on `Optimizer._iterations`. The public `iterations` counts updates, each of which takes
    several batches where gradients are accumulated.

    Args:
        optimizer: An optimizer that updates weights itself.
    """
    return optimizer._iterations


def optimized_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the weights that a built optimizer updates.

    Relies on `Optimizer._trainable_variables`.

    Args:
        optimizer: An optimizer that is built.
    """
    return optimizer._trainable_variables


def accumulated_gradient(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> keras.Variable:
    """Returns the variable in which an optimizer adds up the gradients of a weight.

    Relies on `Optimizer._accumulated_gradients` and `Optimizer._get_variable_index`. The sum
    is over the batches before the one that makes the update, with the loss scale taken out.

    Args:
        optimizer: A built optimizer with `gradient_accumulation_steps`.
        variable: A weight that it updates.
    """
    return optimizer._accumulated_gradients[optimizer._get_variable_index(variable)]


def position_of_weight(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the position of a weight among those that a built optimizer updates.

    Relies on `Optimizer._get_variable_index`.

    Args:
        optimizer: A built optimizer.
        variable: A weight that it updates, also a replica's copy of it.
    """
    return optimizer._get_variable_index(variable)


def average_of_each_weight(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[keras.Variable, keras.Variable | None]]:
    """Returns the weights that an optimizer updates, each with its moving average if it has one.

    Relies on `Optimizer._trainable_variables` and `Optimizer._model_variables_moving_average`. The
    public `finalize_variable_values` overwrites the weights permanently.

    Args:
        optimizer: A built optimizer with `use_ema`.
    """
    averages = optimizer._model_variables_moving_average
    return list(zip(optimizer._trainable_variables, averages, strict=True))


def draw_seeds_from(layer: keras.layers.Layer, seeds: keras.random.SeedGenerator) -> None:
    """Replaces the generator from which a random layer of images draws its seeds.

    Relies on `_get_seed_generator`, which `get_random_transformation` of these layers calls.
    `RandAugment` does not pass on the public argument `seed`.

    Args:
        layer: A layer of augmentation.
        seeds: The generator.
    """
    layer._get_seed_generator = lambda backend=None: seeds


def identity_of_variable(x: Any) -> int:
    """Returns a number that is the same for all objects that stand for one variable.

    Relies on `_distributed_container` of a replica's copy, or of its `handle`, which is the
    distributed variable.

    Args:
        x: A variable of Keras, of TensorFlow, or one replica's copy of it; or a tensor.
    """
    import tensorflow as tf

    x = x.value if isinstance(x, keras.Variable) else x
    if isinstance(x, tf.distribute.DistributedValues):
        return id(x)
    holder = x if hasattr(x, "_distributed_container") else getattr(x, "handle", x)
    container = getattr(holder, "_distributed_container", None)
    return id(container() if container is not None else x)


def is_tf_function(function: Any) -> bool:
    """Returns whether something is what `tf.function` returns.

    Relies on `tf.types.experimental.PolymorphicFunction` and on `python_function` of its one class
    that can be traced.

    Args:
        function: Anything.
    """
    import tensorflow as tf

    is_polymorphic = isinstance(function, tf.types.experimental.PolymorphicFunction)
    return is_polymorphic and hasattr(function, "python_function")


def compiled_alike(function: Any, python_function: Callable) -> Any:
    """Returns a `tf.function` of another Python function, compiled with the same options.

    Relies on `Function._clone`.

    Args:
        function: A `tf.function`.
        python_function: Has the same signature.
    """
    return function._clone(python_function)


def is_traced_for_xla() -> bool:
    """Returns whether the function being traced will be compiled by XLA.

    Relies on `control_flow_util.GraphOrParentsInXlaContext` of `tensorflow.python.ops`.
    """
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def has_onednn() -> bool:
    """Returns whether TensorFlow uses the kernels of oneDNN in this process.

    Relies on `IsMklEnabled` of `tensorflow.python.util._pywrap_util_port`. They are in some builds,
    and are on by default on some processors; `TF_ENABLE_ONEDNN_OPTS` switches them.
    """
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()


def is_determinism_enabled() -> bool:
    """Returns whether `tf.config.experimental.enable_op_determinism` was called.

    Relies on `is_op_determinism_enabled` of `tensorflow.python.framework.config`.
    """
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()


def can_communicate_in_replicas() -> bool:
    """Returns whether the replicas of the strategy in use can sum tensors under a condition.

    Relies on `tf.__internal__.distribute.strategy_supports_no_merge_call`. Otherwise each
    replica is a thread, and sums need `merge_call`.
    """
    import tensorflow as tf

    return tf.__internal__.distribute.strategy_supports_no_merge_call()


def keep_changes(graph: Any) -> None:
    """Has conditions and loops in a graph run each change of a variable, in the order of the code.

    Relies on `_add_control_dependencies`. It is false in one kind of graphs that run a step: the
    backward function of a `tf.function` that is called eagerly.

    Args:
        graph: The graph that is being made.
    """
    graph._add_control_dependencies = True


def backward_functions_in_order() -> tuple[Any, str, Callable]:
    """Returns a replacement by which backward functions of a `tf.function` keep changes in order.

    Relies on `_create_forward_backward_with_graph` of TensorFlow's functions, and on
    `AutomaticControlDependencies`, by which it orders the changes in all other graphs.

    Returns:
        The module, the name in it, and the function to replace it by.
    """
    from tensorflow.python.eager.polymorphic_function import concrete_function
    from tensorflow.python.framework import auto_control_deps

    name = "_create_forward_backward_with_graph"
    original = getattr(concrete_function, name)

    @functools.wraps(original)
    def create(attrs: Any, forward_graph: Any, backwards_graph: Any) -> Any:
        if not backwards_graph.control_outputs:  # otherwise they are in order
            with (
                backwards_graph.as_default(),
                auto_control_deps.AutomaticControlDependencies() as order,
            ):
                order._n_operations = 0
            backwards_graph.control_outputs.extend(order.ops_which_must_run)
        return original(attrs, forward_graph, backwards_graph)

    return concrete_function, name, create


def is_vectorized() -> bool:
    """Returns whether the function being traced is one that `tf.vectorized_map` was given.

    Relies on the name scope `loop_body`, in which it is traced, with the number of the example as
    its first placeholder.
    """
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:  # a function or a condition in it has a graph of its own
        if _traces_vectorized(graph):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def _traces_vectorized(graph: Any) -> bool:
    found = re.search(r"(.*/)?loop_body(_\d+)?(?=/|$)", graph.get_name_scope())
    try:
        return bool(found and graph.get_operation_by_name(f"{found[0]}/PlaceholderWithDefault"))
    except KeyError:  # a layer of that name
        return False


def backward_graphs_of_control_flow() -> list[type]:
    """Returns the types of the graphs in which gradients of conditions and loops are computed.

    Relies on `_CondGradFuncGraph` and `_WhileBodyGradFuncGraph` of TensorFlow's control flow, and
    their `capture`. They take tensors of the graphs around them, but no variable that none of
    these has read.
    """
    from tensorflow.python.ops import cond_v2, while_v2

    return [cond_v2._CondGradFuncGraph, while_v2._WhileBodyGradFuncGraph]


def function_of_one_node(function: Callable[..., "tf.Tensor"]) -> Any:
    """Returns a `tf.function` each call of which stays a single node of the graph around it.

    Relies on the attribute `_noinline` of a graph's function, without which TensorFlow replaces the
    call by the function's nodes.

    Args:
        function: A function of tensors that returns one tensor.
    """
    import tensorflow as tf

    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def without_recording() -> Any:
    """Returns a context in which no tape of TensorFlow records, whatever the tapes around it.

    Relies on `record.stop_recording` of `tensorflow.python.eager`. The public
    `GradientTape.stop_recording` needs the tape.
    """
    from tensorflow.python.eager import record

    return record.stop_recording()


def call_context() -> Any:
    """Returns a copy of what calls of layers are told by those around them, such as `training`.

    Relies on the `CallContext` in the global attribute `current_call_ctx`. `None` outside of calls.
    """
    return copy.copy(global_state.get_global_attribute("current_call_ctx"))


@contextlib.contextmanager
def in_call_context(context: Any) -> Iterator[None]:
    """Context in which calls of layers are told what they were when `call_context` was called.

    Relies on the same as `call_context`.

    Args:
        context: What `call_context` returned. It is not changed.
    """
    before = global_state.get_global_attribute("current_call_ctx")
    global_state.set_global_attribute("current_call_ctx", copy.copy(context))
    try:
        yield
    finally:
        global_state.set_global_attribute("current_call_ctx", before)


@contextlib.contextmanager
def call_told(layer: keras.layers.Layer, training: bool | None) -> Iterator[None]:
    """Context in which layers are told whether they run as in training, as in the call of a layer.

    Relies on `CallContext` of `keras.src.layers.layer`, in which `__call__` looks `training` up,
    and on `_clear_losses` of a layer, which `__call__` calls where it makes such a context.

    Args:
        layer: The layer whose call it is.
        training: Whether they run as in training; `None` to tell them nothing.
    """
    from keras.src.layers.layer import CallContext

    context = call_context()
    if context is None:
        layer._clear_losses()
        context = CallContext(layer)
    if training is not None:
        context.set_value("training", training)
    with in_call_context(context):
        yield


def has_tangents(tensors: Sequence["tf.Tensor"]) -> bool:
    """Returns whether tensors are differentiated in forward mode, by `tf.autodiff`.

    Relies on `pack_tangents` of `tensorflow.python.eager.forwardprop_util`.

    Args:
        tensors: Tensors of TensorFlow.
    """
    from tensorflow.python.eager import forwardprop_util

    return bool(forwardprop_util.pack_tangents(tensors).tangents)


def values_as_stored(variables: Sequence[keras.Variable]) -> list[Any]:
    """Returns the values of variables in their own dtypes, also in a layer with mixed precision.

    Relies on `AutocastScope` of `keras.src.backend.common.variables`.

    Args:
        variables: Variables of Keras.
    """
    from keras.src.backend.common.variables import AutocastScope

    with AutocastScope(None):
        return [keras.ops.convert_to_tensor(variable.value) for variable in variables]


def xla_barrier(tensors: Sequence["tf.Tensor"]) -> Any:
    """Returns tensors none of which XLA computes with before all of them are available.

    Relies on `xla_optimization_barrier` of `gen_xla_ops` of `tensorflow.compiler.tf2xla.ops`.

    Args:
        tensors: Tensors of a function that is traced for XLA.
    """
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops

    return gen_xla_ops.xla_optimization_barrier(input=list(tensors))


def functions_that_add() -> list[tuple[Any, str]]:
    """Returns the functions of TensorFlow through which all additions and subtractions go.

    Relies on `tf.add`, `tf.subtract`, `tf.add_n` and the operators of a tensor calling `add_v2`,
    `sub` and `add_n` of the module `gen_math_ops` of `tensorflow.python.ops` by these names.
    """
    from tensorflow.python.ops import gen_math_ops

    return [(gen_math_ops, name) for name in ("add_v2", "sub", "add_n")]


def has_gradient(operation: Any) -> bool:
    """Returns whether an operation of a graph of TensorFlow passes gradients to its inputs.

    Relies on `get_gradient_function` of `tensorflow.python.framework.ops`.

    Args:
        operation: A `tf.Operation`.
    """
    from tensorflow.python.framework import ops

    try:
        return ops.get_gradient_function(operation) is not None
    except LookupError:
        return False


def kinds_in_called_functions(operation: Any) -> set[str]:
    """Returns the kinds of operations in the functions an operation calls; empty if it calls none.

    Relies on `_get_function` of a graph, and on the function's `definition`.

    Args:
        operation: A `tf.Operation`.
    """
    names = [operation.get_attr(name).name for name in _CALLED_BY.get(operation.type, ())]
    functions = [operation.graph._get_function(name) for name in names]
    return {node.op for f in functions if f for node in f.definition.node_def}


def records_gradients() -> bool:
    """Returns whether tapes of TensorFlow record at the moment, and are not stopped.

    Relies on `TFE_Py_TapeSetIsStopped` of `tensorflow.python.pywrap_tfe`.
    """
    from tensorflow.python import pywrap_tfe

    return not pywrap_tfe.TFE_Py_TapeSetIsStopped()


def symbolic_inputs(function: keras.Function) -> Any:
    """Returns the symbolic inputs of a functional model, in the structure in which it takes them.

    Relies on `Function._inputs_struct`.

    Args:
        function: A functional model.
    """
    return function._inputs_struct


def input_like(x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a new symbolic input with the name and the properties of another one.

    Relies on `KerasTensor._keras_history`.

    Args:
        x: The symbolic output of a `keras.layers.InputLayer`.
    """
    layer: Any = x._keras_history.operation  # pyright: ignore[reportAttributeAccessIssue]
    return type(layer).from_config(layer.get_config()).output


def is_layer_of_keras(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is one of Keras or of this package, and runs no code of a user.

    Relies on the modules of Keras's layers and models.

    Args:
        layer: Any layer or model.
    """
    module = type(layer).__module__
    known = ("keras.src.layers.", "keras.src.models.", "reszoo.layers.")
    return module.startswith(known) and not isinstance(layer, keras.layers.Lambda)
