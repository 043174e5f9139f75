"""Steps of training and of testing, on the devices, over all replicas."""

from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from reszoo.training.losses import loss_of

Step = Callable[..., tf.Tensor]
Counter = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], None]

# Number of best answers for the top-5 accuracy.
TOP = 5


def train_step(model: keras.Model, global_batch_size: int) -> Step:
    """Returns the training step of one replica.

    Args:
        model: A compiled model of logits.
        global_batch_size: Number of images in a batch, over all replicas.

    Returns:
        A function of `(images, labels)` that updates the model once and returns the sums
        `[loss, correct answers, images, right among the best five]` over this replica's images.
    """
    losses = loss_of(model)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            of_images = tf.reduce_sum(losses.call(labels, logits))
            loss = of_images / global_batch_size + _own_losses(model)
            scaled_loss = model.optimizer.scale_loss(loss)
        variables = model.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        # A variable without a gradient (behind a stopped gradient) stays as it is.
        reached = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
        model.optimizer.apply(*map(list, zip(*reached, strict=True)))
        ones = tf.ones(tf.shape(labels)[:1])
        return _sums(loss * global_batch_size, labels, logits, ones)

    return step


def test_step(model: keras.Model, counters: Sequence[Counter]) -> Step:
    """Returns the test step of one replica.

    Args:
        model: A model of logits.
        counters: Functions of `(labels, logits, weights)`, called for each batch, that update
            variables.

    Returns:
        A function of `(images, labels, weights)` that returns the weighted sums
        `[loss, correct answers, images, right among the best five]` over this replica's images.
    """
    losses = loss_of(model)

    def step(images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        logits = model(images, training=False)
        for counter in counters:
            counter(labels, logits, weights)
        loss = tf.reduce_sum(weights * losses.unweighted(labels, logits))
        # The model's own losses count once for each image, as in training.
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        loss += tf.reduce_sum(weights) * _own_losses(model) * replicas
        return _sums(loss, labels, logits, weights)

    return step


def _own_losses(model: keras.Model) -> tf.Tensor:
    """Returns this replica's part of the model's own losses (regularization)."""
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    return tf.add_n([tf.constant(0.0), *(tf.cast(x, tf.float32) for x in model.losses)]) / replicas


def _sums(loss: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Returns the sums `[loss, correct answers, images, right among the best five]`."""
    if labels.shape.rank == 2:
        labels = tf.argmax(labels, axis=-1, output_type=tf.int32)
    first = tf.cast(tf.argmax(logits, axis=-1, output_type=labels.dtype) == labels, tf.float32)
    five = min(TOP, logits.shape[-1] or TOP)
    among_five = tf.cast(tf.math.in_top_k(labels, tf.cast(logits, tf.float32), five), tf.float32)
    correct = tf.reduce_sum(first * weights)
    return tf.stack([loss, correct, tf.reduce_sum(weights), tf.reduce_sum(among_five * weights)])


def distributed(step: Step, strategy: tf.distribute.Strategy, jit_compile: bool) -> Step:
    """Returns a step over all replicas.

    Args:
        step: The step of one replica.
        strategy: The devices to run on.
        jit_compile: Whether to compile the step with XLA.

    Returns:
        A function of a process's vote, a number, and a batch. It returns the sums over all
        replicas of what `step` returns, and at the end the sum of the votes.
    """

    def step_and_vote(vote: tf.Tensor, *batch: tf.Tensor) -> tf.Tensor:
        return tf.concat([step(*batch), [vote]], axis=0)

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(vote: tf.Tensor, *batch: tf.Tensor) -> tf.Tensor:
        sums = strategy.run(step_and_vote, args=(vote, *batch))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    return run


def repeated(run_step: Step) -> Callable[..., tf.Tensor]:
    """Returns a function that runs several steps, and returns to the host after the last.

    Args:
        run_step: A step that `distributed` returned.

    Returns:
        A function of a process's vote, an iterator of batches, the number of steps, and totals.
        It returns the totals with the sums of each step added, in float64 and in their order.
    """

    @tf.function(autograph=False)
    def several(
        vote: tf.Tensor, batches: Iterator, number: tf.Tensor, totals: tf.Tensor
    ) -> tf.Tensor:
        def one_more(done: tf.Tensor, totals: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return done + 1, totals + tf.cast(run_step(vote, *next(batches)), tf.float64)

        return tf.while_loop(lambda done, _: done < number, one_more, (0, totals))[1]

    def run(vote: tf.Tensor, batches: Iterator, number: int, totals: tf.Tensor) -> tf.Tensor:
        if number == 1:
            return totals + tf.cast(run_step(vote, *next(batches)), tf.float64)
        return several(vote, batches, tf.constant(number), totals)

    return run
