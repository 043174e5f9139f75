"""Each name of Keras and TensorFlow that is not public still means what is relied on.

Run alone, in seconds, to try another version of either.
"""

import contextlib
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import dtypes

import reszoo
from reszoo import keras_internals
from reszoo.gradients.patching import replace

WRITTEN_FOR = "keras 3.15 and tensorflow 2.21"
ROOM = Path(reszoo.__file__).parent
# A private attribute of anything but `self` and `cls`; and modules that are not public.
ACCESSED = re.compile(r"(?<!\bself)(?<!\bcls)\.(_[a-z]\w*)")
DEFINED = re.compile(r"(?:def |self\.)(_[a-z]\w*)")
MODULES = re.compile(r"__internal__|keras\.src|tensorflow\.(?:python|core|compiler)")


def changed(name):
    """Returns what a test says that fails."""
    return (
        f"{name} is not what reszoo/keras_internals.py relies on, which was written for "
        f"{WRITTEN_FOR}; these are keras {keras.__version__} and tensorflow {tf.__version__}"
    )


def check(is_so, name):
    if not is_so:
        pytest.fail(changed(name))


def has(owner, name):
    check(hasattr(owner, name), f"{type(owner).__name__}.{name}")


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((4,), name="x")
    branch = keras.layers.Dense(4, name="dense")(inputs)
    return keras.Model(inputs, keras.layers.Add(name="add")([inputs, branch]), name="nested")


@pytest.fixture
def weight():
    return keras.Variable([1.0, 2.0], name="weight")


def test_layers_in_layers_are_found_by_flatten_layers(model):
    inputs = keras.Input((4,), name="input")
    outer = keras.Model(inputs, keras.layers.Dense(4, name="head")(model(inputs)))
    has(outer, "_flatten_layers")
    names = [layer.name for layer in keras_internals.sublayers(outer)]
    check(
        sorted(names) == ["add", "dense", "head", "input", "nested", "x"],
        "Layer._flatten_layers(include_self=False)",
    )
    direct = keras_internals.sublayers(outer, recursive=False)
    check(direct == outer.layers, "Layer._flatten_layers(recursive=False)")
    assert keras_internals.sublayers(keras.Operation()) == []


def test_the_nodes_of_a_functional_model_are_in_nodes_by_depth(model):
    has(model, "_nodes_by_depth")
    nodes = list(keras_internals.nodes_in_order(model))
    for attribute in ("operation", "arguments", "input_tensors", "outputs", "is_input"):
        has(nodes[0], attribute)
    check([n.operation.name for n in nodes] == ["dense", "add"], "Function._nodes_by_depth")
    for attribute in ("args", "kwargs", "fill_in"):
        has(nodes[1].arguments, attribute)
    values = {id(x): float(i) for i, x in enumerate(nodes[1].input_tensors)}
    check(nodes[1].arguments.fill_in(values) == (([0.0, 1.0],), {}), "SymbolicArguments.fill_in")


def test_a_functional_model_runs_by_run_through_graph_of_the_instance(model):
    has(model, keras_internals.RUN_THROUGH_GRAPH)
    asked = []

    def run(inputs, operation_fn=lambda operation: operation, call_fn=None):
        def asked_for(operation):
            asked.append(operation.name)
            return operation_fn(operation)

        return keras_internals.run_through_graph(model, inputs, asked_for, call_fn)

    x = np.ones((1, 4), np.float32)
    expected = model(x)
    vars(model)[keras_internals.RUN_THROUGH_GRAPH] = run
    try:
        y = model(x)
    finally:
        del vars(model)[keras_internals.RUN_THROUGH_GRAPH]
    check(asked == ["dense", "add"], "Function._run_through_graph")
    np.testing.assert_array_equal(y, expected)


def test_additions_and_concatenations_have_these_class_names():
    x = keras.Input((4,))
    for add in (keras.layers.Add(), lambda xs: keras.ops.add(*xs), lambda xs: xs[0] + xs[1]):
        found = keras_internals.nodes_in_order(keras.Model(x, add([x, x])))
        check(all(keras_internals.is_addition(n.operation) for n in found), "operation Add")
    for join in (keras.layers.Concatenate(), keras.ops.concatenate):
        (node,) = keras_internals.nodes_in_order(keras.Model(x, join([x, x])))
        check(keras_internals.is_concatenation(node.operation), "operation Concatenate")
        assert not keras_internals.is_addition(node.operation)
    for subtract in (keras.layers.Subtract(), lambda xs: xs[0] - xs[1]):
        (node,) = keras_internals.nodes_in_order(keras.Model(x, subtract([x, x])))
        check(keras_internals.is_subtraction(node.operation), "operation Subtract")
    for multiply in (keras.layers.Multiply(), lambda xs: xs[0] * xs[1]):
        (node,) = keras_internals.nodes_in_order(keras.Model(x, multiply([x, x])))
        check(keras_internals.is_product(node.operation), "operation Multiply")
    for add in (keras.ops.sum, keras.ops.mean, keras.ops.average):
        stack, node = keras_internals.nodes_in_order(
            keras.Model(x, add(keras.ops.stack([x, x]), 0))
        )
        check(keras_internals.is_stack(stack.operation), "operation Stack")
        check(keras_internals.adds_what_it_is_given(node.operation), "operations Sum, Mean")
    for multiply in (keras.ops.matmul, keras.ops.dot, lambda x, y: keras.ops.tensordot(x, y, 1)):
        (node,) = keras_internals.nodes_in_order(keras.Model(x, multiply(x, np.eye(4))))
        check(keras_internals.multiplies_tensors(node.operation), "operations Dot, Matmul")
    for activate in (keras.ops.relu, keras.layers.Softmax(), keras.layers.Dense(2, "tanh")):
        (node,) = keras_internals.nodes_in_order(keras.Model(x, activate(x)))
        check(keras_internals.is_activation(node.operation), "an activation function")
    for constant in (keras.ops.stop_gradient, keras.ops.zeros_like, keras.ops.round):
        (node,) = keras_internals.nodes_in_order(keras.Model(x, constant(x)))
        check(not keras_internals.passes_gradients(node.operation), "an operation's name")


def test_the_dtype_of_results_is_in_bit64_to_bit32_dtype():
    to_32_bits = {"int64": "int64", "uint64": "uint32", "float64": "float64"}
    for name, dtype in to_32_bits.items():
        check(dtypes.BIT64_TO_BIT32_DTYPE[name] == dtype, "BIT64_TO_BIT32_DTYPE")


def test_additions_go_through_functions_that_can_be_replaced():
    x, y = tf.constant([1.0]), tf.constant([2.0])
    calls = []
    with contextlib.ExitStack() as put_back:
        for module, name in keras_internals.functions_that_add():
            own = vars(module)[name]

            def add(*args, own=own, **kwargs):
                calls.append(own.__name__)
                return own(*args, **kwargs)

            put_back.callback(replace(module, name, add))
        _ = x + y, tf.add(x, y), keras.ops.add(x, y), keras.layers.add([x, y])
        check(calls == ["add_v2"] * 4, "add_v2 of gen_math_ops")
        _ = x - y, tf.subtract(x, y), keras.ops.subtract(x, y), tf.add_n([x, y])
    check(calls[4:] == ["sub"] * 3 + ["add_n"], "sub and add_n of gen_math_ops")


def test_operations_of_a_graph_know_whether_they_have_a_gradient():
    @tf.function
    def traced(x):
        return tf.tanh(x), tf.zeros_like(x), tf.stop_gradient(x)

    operations = traced.get_concrete_function(tf.TensorSpec([None])).graph.get_operations()
    found = {op.type: keras_internals.has_gradient(op) for op in operations}
    check(found["Tanh"], "get_gradient_function")
    check(not found["ZerosLike"] and not found["StopGradient"], "get_gradient_function")


def test_operations_that_call_a_function_tell_what_is_in_it():
    inner = tf.function(lambda x: tf.tanh(x))
    traced = tf.function(lambda x: inner(x)).get_concrete_function(tf.TensorSpec([1]))
    (calling,) = [op for op in traced.graph.get_operations() if "Call" in op.type]
    check("Tanh" in keras_internals.kinds_in_called_functions(calling), "_get_function of a graph")


def test_tapes_tell_whether_they_are_stopped():
    check(keras_internals.records_gradients(), "TFE_Py_TapeSetIsStopped")
    with keras_internals.without_recording():
        check(not keras_internals.records_gradients(), "TFE_Py_TapeSetIsStopped")


def test_a_functional_model_has_its_symbolic_inputs_in_their_structure():
    inputs = {name: keras.Input((2,), name=name) for name in "xy"}
    model = keras.Model(inputs, inputs["x"] + inputs["y"])
    check(list(keras_internals.symbolic_inputs(model)) == ["x", "y"], "_inputs_struct")


def test_models_that_run_their_layers_alone_are_told_from_others(model):
    class Own(keras.Model):
        def call(self, x):
            return x

    inputs = keras.Input((4,))
    chain = keras.Sequential([keras.layers.Dense(4)])
    told = keras_internals.runs_its_graph, keras_internals.runs_in_turn
    check([is_so(model) for is_so in told] == [True, False], "Functional.call")
    check(not any(is_so(Own(inputs, inputs)) for is_so in told), "Functional.call")
    check(not any(is_so(chain) for is_so in told), "Sequential._functional")
    chain.build((None, 4))
    check([is_so(chain) for is_so in told] == [False, True], "Sequential._functional")


def test_an_input_can_be_made_like_another_one():
    old = keras.Input((None, 4), batch_size=3, dtype="int32", name="tokens", optional=True)
    new = keras_internals.input_like(old)
    same = [(x.shape, x.dtype, x.name) for x in (old, new)]
    check(new is not old and same[0] == same[1], "KerasTensor._keras_history")


def test_layers_of_keras_are_told_from_others():
    class Mine(keras.layers.Layer):
        pass

    known = [keras.layers.Dense(1), keras.layers.Add(), keras.Sequential()]
    check(all(map(keras_internals.is_layer_of_keras, known)), "modules of Keras's layers")
    for layer in (Mine(), keras.layers.Lambda(abs)):
        assert not keras_internals.is_layer_of_keras(layer)


def test_a_mask_hangs_on_its_tensor():
    x = keras.layers.Masking()(tf.constant([[[0.0], [1.0]]]))
    check(hasattr(x, "_keras_mask"), "_keras_mask of a tensor")
    same = keras_internals.hand_on_mask(x, tf.identity(x))
    seen = []

    class Reader(keras.layers.Layer):
        supports_masking = True

        def call(self, x, mask=None):
            seen.append(mask)
            return x

    Reader()(same)
    check(seen[0] is not None, "_keras_mask of a tensor")
    np.testing.assert_array_equal(seen[0], [[False, True]])
    assert not hasattr(keras_internals.hand_on_mask(tf.zeros(1), tf.ones(1)), "_keras_mask")


def test_accumulated_gradients_and_the_count_of_batches_lie_in_the_optimizer(weight):
    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    optimizer.build([weight])
    for name in ("_iterations", "_trainable_variables", "_accumulated_gradients"):
        has(optimizer, name)
    has(optimizer, "_get_variable_index")
    assert keras_internals.optimized_variables(optimizer)[0] is weight
    optimizer.apply([tf.constant([3.0, 4.0])], [weight])
    check(int(keras_internals.batch_counter(optimizer)) == 1, "Optimizer._iterations")
    accumulated = keras_internals.accumulated_gradient(optimizer, weight)
    check(list(accumulated.numpy()) == [3.0, 4.0], "Optimizer._accumulated_gradients")


def test_the_averages_of_weights_lie_in_the_optimizer(weight):
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    optimizer.build([weight])
    has(optimizer, "_model_variables_moving_average")
    optimizer.apply([tf.constant([1.0, 1.0])], [weight])
    optimizer.apply([tf.constant([1.0, 1.0])], [weight])
    ((variable, average),) = keras_internals.average_of_each_weight(optimizer)
    assert variable is weight
    check(
        not np.array_equal(average.numpy(), weight.numpy()),
        "Optimizer._model_variables_moving_average",
    )


def test_an_optimizer_says_by_what_the_loss_is_scaled(weight):
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=8.0)
    optimizer.build([weight])
    for name in ("inner_optimizer", "initial_scale", "dynamic_scale", "scale_loss"):
        has(optimizer, name)
    check(float(optimizer.dynamic_scale) == 8.0, "LossScaleOptimizer.dynamic_scale")
    has(keras.optimizers.SGD(loss_scale_factor=2.0), "loss_scale_factor")


@pytest.mark.parametrize("kind", ["RandAugment", "MixUp", "CutMix"])
def test_layers_of_augmentation_ask_get_seed_generator(kind):
    layer = getattr(keras.layers, kind)()
    has(layer, "_get_seed_generator")
    asked = []

    class Seeds(keras.random.SeedGenerator):
        def next(self, ordered=True):
            asked.append(ordered)
            return super().next(ordered)

    seeds = Seeds(0)
    keras_internals.draw_seeds_from(layer, seeds)
    images = tf.zeros((2, 8, 8, 3))
    data = {"images": images, "labels": tf.zeros((2, 2))} if kind != "RandAugment" else images
    shape = images if kind == "RandAugment" else data["images"]
    layer.get_random_transformation(shape, seed=seeds)
    check(asked, f"{kind}._get_seed_generator")


def test_a_replicas_copy_of_a_variable_knows_the_whole_one():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        variable = keras.Variable([0.0])
    whole = keras_internals.identity_of_variable(variable)
    (copy,) = strategy.experimental_local_results(variable.value)
    assert copy is not variable.value
    check(hasattr(copy.handle, "_distributed_container"), "_distributed_container of a handle")
    check(keras_internals.identity_of_variable(copy) == whole, "_distributed_container")


def test_tensorflow_says_what_is_traced_for_xla():
    said = []

    def function(x):
        said.append(keras_internals.is_traced_for_xla())
        return x

    for jit in (False, True):
        tf.function(function, jit_compile=jit).get_concrete_function(tf.constant(0.0))
    # XLA's context is there when a compiled function is traced within its call.
    tf.function(function, jit_compile=True)(tf.constant(0.0))
    check(said[0] is False and said[-1] is True, "control_flow_util.GraphOrParentsInXlaContext")
    assert not keras_internals.is_traced_for_xla()


def test_tensorflow_says_whether_it_has_onednn():
    from tensorflow.python.eager import context

    convolve = tf.function(lambda x, kernel: tf.nn.conv2d(x, kernel, 1, "SAME"), autograph=False)
    context.enable_run_metadata()
    try:
        convolve(tf.ones((1, 4, 4, 2)), tf.ones((3, 3, 2, 2)))
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    (operation,) = (node.op for graph in graphs for node in graph.node if "Conv2D" in node.op)
    check(keras_internals.has_onednn() == operation.startswith("_Mkl"), "IsMklEnabled")


def test_tensorflow_says_whether_operations_must_be_deterministic(monkeypatch):
    assert not keras_internals.is_determinism_enabled()
    from tensorflow.python.framework import config

    # Once enabled, it stays so.
    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: True)
    check(keras_internals.is_determinism_enabled(), "config.is_op_determinism_enabled")


def test_tensorflow_says_whether_replicas_are_threads():
    check(
        keras_internals.can_communicate_in_replicas() is True,
        "tf.__internal__.distribute.strategy_supports_no_merge_call",
    )
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        check(
            isinstance(keras_internals.can_communicate_in_replicas(), bool),
            "tf.__internal__.distribute.strategy_supports_no_merge_call",
        )


def test_a_function_that_is_not_inlined_is_one_node():
    apart = keras_internals.function_of_one_node(lambda x: x * x + x)
    concrete = apart.get_concrete_function(tf.TensorSpec((), tf.float32))
    attributes = concrete.function_def.attr
    check("_noinline" in attributes and attributes["_noinline"].b, "attribute _noinline")


def test_a_tf_function_is_compiled_as_another_one():
    function = tf.function(lambda x: 2 * x, jit_compile=True)
    check(keras_internals.is_tf_function(function), "Function.python_function")
    check(not keras_internals.is_tf_function(function.python_function), "PolymorphicFunction")
    other = keras_internals.compiled_alike(function, lambda x: 3 * x)
    check(other(tf.constant(2.0)) == 6, "Function._clone")
    check(other.experimental_get_compiler_ir(tf.constant(2.0))() is not None, "Function._clone")


def test_tapes_do_not_record_where_recording_is_stopped():
    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        with keras_internals.without_recording():
            y = x * x
    check(tape.gradient(y, x) is None, "record.stop_recording")


def test_values_are_as_stored_within_mixed_precision(weight):
    dtypes = []

    class Layer(keras.layers.Layer):
        def call(self, x):
            dtypes.extend([weight.value.dtype, keras_internals.values_as_stored([weight])[0].dtype])
            return x

    Layer(dtype="mixed_float16")(np.ones(2))
    check(dtypes == [tf.float16, tf.float32], "AutocastScope")


def test_a_call_is_told_what_those_around_it_were_told():
    contexts, told = [], []

    class Inner(keras.layers.Layer):
        def call(self, x, training=None):
            told.append(training)
            return x

    class Outer(keras.layers.Layer):
        def call(self, x):
            contexts.append(keras_internals.call_context())
            return x

    Outer()(np.ones(2), training=True)
    check(contexts[0] is not None, "current_call_ctx")
    with keras_internals.in_call_context(contexts[0]):
        Inner()(np.ones(2))
    Inner()(np.ones(2))
    check([bool(training) for training in told] == [True, False], "current_call_ctx")


def test_layers_are_told_whether_they_run_as_in_training():
    told = []

    class Inner(keras.layers.Layer):
        def call(self, x, training=None):
            told.append(training)
            return x

    layer = Inner()
    has(layer, "_clear_losses")
    with keras_internals.call_told(layer, True):
        layer(tf.ones(1))
    with keras_internals.call_told(layer, None):
        layer(tf.ones(1))
    check(told == [True, None], "keras.src.layers.layer.CallContext")


def test_tangents_of_the_forward_mode_are_seen():
    x = tf.constant(2.0)
    check(not keras_internals.has_tangents([x]), "forwardprop_util.pack_tangents")
    with tf.autodiff.ForwardAccumulator(x, x):
        check(keras_internals.has_tangents([x]), "forwardprop_util.pack_tangents")


def test_xla_waits_at_a_barrier():
    barrier = tf.function(lambda x: keras_internals.xla_barrier([x + 1, x])[0], jit_compile=True)
    check(float(barrier(tf.constant(1.0))) == 2.0, "gen_xla_ops.xla_optimization_barrier")


def test_graphs_of_gradients_capture_and_keep_changes():
    kinds = keras_internals.backward_graphs_of_control_flow()
    for kind in kinds:
        has(kind, "capture")
    module, name, create = keras_internals.backward_functions_in_order()
    check(callable(vars(module).get(name)), f"concrete_function.{name}")
    variable, seen = tf.Variable(0.0), []

    @tf.custom_gradient
    def counted(x):
        def backward(gradient):
            graph = tf.compat.v1.get_default_graph()
            seen.append(graph._add_control_dependencies)
            keras_internals.keep_changes(graph)
            tf.cond(variable >= 0, lambda: variable.assign_add(1.0), variable.value)
            return gradient

        return tf.identity(x), backward

    put_back = replace(module, name, create)
    x = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        y = tf.function(counted)(x.value())
    tape.gradient(y, x)
    put_back()
    check(seen == [False], "FuncGraph._add_control_dependencies")
    check(float(variable) == 1.0, f"concrete_function.{name}")


def test_a_vectorized_function_is_traced_in_a_scope_of_its_own():
    seen = []

    def noted(x):
        seen.append(keras_internals.is_vectorized())
        return x

    def in_layer(x):
        with tf.name_scope("loop_body"):
            return noted(x)

    tf.function(lambda x: tf.vectorized_map(noted, x))(tf.ones(2))
    tf.vectorized_map(noted, tf.ones(2))
    tf.map_fn(noted, tf.ones(2))
    tf.function(in_layer)(tf.ones(2))
    check(
        seen[:2] == [True, True] and not any(seen[2:]), "the scope loop_body of tf.vectorized_map"
    )


def test_fit_runs_by_the_methods_that_are_found_on_the_instance():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    called = []

    def noted(name, own):
        def function(*args, **kwargs):
            called.append(name)
            return own(*args, **kwargs)

        return function

    for name in ("train_step", "make_train_function"):
        has(model, name)
        vars(model)[name] = noted(name, getattr(model, name))
    check(model.train_function is None, "Model.train_function")
    model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0)
    check(called == ["make_train_function", "train_step"], "Model.fit")
    check(callable(model.train_function), "Model.train_function")
    for name in ("steps_per_execution", "jit_compile", "distribute_strategy", "history"):
        has(model, name)


def test_no_other_module_names_what_is_not_public():
    texts = {
        str(path.relative_to(ROOM)): path.read_text(encoding="utf-8") for path in ROOM.rglob("*.py")
    }
    here = texts.pop("keras_internals.py")
    own = {name for text in texts.values() for name in DEFINED.findall(text)}
    theirs = {*ACCESSED.findall(here), *re.findall(r'"(_\w+)"', here)}
    assert len(theirs) > 10
    for path, text in texts.items():
        assert not MODULES.findall(text), path
        assert not set(ACCESSED.findall(text)) - own - {"_exit"}, path  # the public os._exit
        assert not [name for name in theirs if re.search(rf"\b{name}\b", text)], path
