"""Users of a tensor wait for its sums, so that it may be written in the tensor's place."""

import keras
import tensorflow as tf

import reszoo
from reszoo import ResidualBlock


def recorded_graph(log_dir):
    """Returns the operations of a recorded training step of two dense blocks."""
    layers = [ResidualBlock([keras.layers.Dense(4)], name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    recorder = reszoo.GradientRecorder(log_dir, every_steps=1, statistics=["paths"])
    recorder.set_model(model)
    recorder.on_train_begin()
    recorder.on_train_batch_begin(0)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)

    step = tf.function(recorder.recorded(step, asks=False))
    graph = step.get_concrete_function(tf.TensorSpec((None, 4))).graph
    recorder.close()
    return graph.get_operations()


def waits_for(op):
    """Returns every operation that has to end before this one for the order's sake alone."""
    directly = list(op.control_inputs)
    return directly + [earlier for later in directly for earlier in waits_for(later)]


def test_whatever_uses_a_gradient_waits_for_its_sums(tmp_path):
    operations = recorded_graph(str(tmp_path))
    sums = [op for op in operations if op.type == "PartitionedCall"]
    # Of each block: at its merge, at its fork, and of what leaves it.
    assert sorted(len(op.inputs) for op in sums) == [1, 1, 1, 1, 2, 2]
    of_forks = [op for op in sums if len(op.inputs) == 2]
    for fork in of_forks:
        (total,) = (
            op
            for op in operations
            if op.type == "AddV2" and {x.ref() for x in op.inputs} == {x.ref() for x in fork.inputs}
        )
        assert fork in waits_for(total)
    for observed in set(sums) - set(of_forks):
        (tensor,) = observed.inputs
        others = [op for op in tensor.consumers() if op is not observed]
        assert others
        assert all(observed in waits_for(op) for op in others)
