"""Records equal the values of a tape written by hand, and training does not notice the recorder."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import BasicBranch, ProjectionShortcut, ResidualBlock, StopGradSkip
from reszoo.gradients import load
from reszoo.gradients.log.reader import epoch_starts
from reszoo.models import ResNet18
from tests.gradients.by_hand import expected_statistics, path_gradients


def small_model():
    """One block whose skip is the input itself, one that projects, one that stops the gradient."""
    keras.utils.clear_session()  # so that two models have the same names
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((8, 8, 4)),
        ResidualBlock(BasicBranch(4), activation="relu", name="identity"),
        ResidualBlock(
            BasicBranch(8, strides=2), ProjectionShortcut(8, strides=2), "relu", name="projection"
        ),
        ResidualBlock(BasicBranch(8), StopGradSkip(), activation="relu", name="stopped"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ]
    return keras.Sequential(layers, name="small")


def compiled(model, optimizer=None, jit_compile=False, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        loss,
        jit_compile=jit_compile,
        **options,
    )
    return model


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    images = random.normal(size=(32, 8, 8, 4)).astype("float32")
    return images, random.integers(0, 3, 32)


def fit(model, data, recorder=None, epochs=1, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(*data, epochs=epochs, callbacks=recorder and [recorder], **options)


def values(log_dir, step):
    table = load(str(log_dir))
    table = table[table.step == step]
    return {
        block: dict(zip(rows.statistic, rows.value, strict=True))
        for block, rows in table.groupby("block", observed=True)
    }


@pytest.mark.parametrize(
    "options", [{"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}], ids=str
)
def test_statistics_are_those_of_a_tape_written_by_hand(data, tmp_path, options):
    model = compiled(small_model(), **options)
    images, labels = data[0][:8], data[1][:8]
    gradients = path_gradients(small_model(), images, lambda logits: model.loss(labels, logits))
    fit(model, (images, labels), reszoo.GradientRecorder(tmp_path, every_steps=1))
    recorded = values(tmp_path, 0)
    assert recorded.keys() == gradients.keys()
    for block, of_block in gradients.items():
        for name, expected in expected_statistics(*of_block).items():
            assert recorded[block][name] == pytest.approx(expected, rel=1e-5, nan_ok=True), name


def test_the_gradient_of_the_input_is_the_sum_of_both_returns(data, tmp_path):
    fit(compiled(small_model()), data, reszoo.GradientRecorder(tmp_path, every_steps=1))
    for recorded in values(tmp_path, 2).values():
        skip, branch = recorded["skip_gradient_norm"], recorded["branch_gradient_norm"]
        product = np.nan_to_num(recorded["skip_branch_cosine"]) * skip * branch
        squares = skip**2 + branch**2 + 2 * product
        assert recorded["input_gradient_norm"] == pytest.approx(np.sqrt(squares), rel=1e-5)


def test_a_stopped_skip_returns_exactly_nothing(data, tmp_path):
    fit(compiled(small_model()), data, reszoo.GradientRecorder(tmp_path, every_steps=1))
    for step in range(4):
        stopped = values(tmp_path, step)["stopped"]
        assert stopped["skip_gradient_norm"] == 0
        assert stopped["skip_share"] == 0
        assert stopped["branch_gradient_norm"] > 0


def test_weight_statistics_are_those_of_the_weights(data, tmp_path):
    images, labels = data[0][:8], data[1][:8]
    model = compiled(small_model(), keras.optimizers.Adam(0.01, clipnorm=0.1))
    block = model.get_layer("projection")
    before = [w.numpy() for w in block.trainable_weights]
    with tf.GradientTape() as tape:
        loss = model.loss(labels, model(images, training=True))
    gradients = tape.gradient(loss, [w.value for w in block.trainable_weights])
    model = compiled(small_model(), keras.optimizers.Adam(0.01, clipnorm=0.1))
    fit(model, (images, labels), reszoo.GradientRecorder(tmp_path, every_steps=1))
    after = [w.numpy() for w in model.get_layer("projection").trainable_weights]
    recorded = values(tmp_path, 0)["projection"]

    def norm(tensors):
        return np.sqrt(sum(np.sum(np.square(t, dtype=np.float64)) for t in tensors))

    assert recorded["weight_gradient_norm"] == pytest.approx(norm(gradients), rel=1e-5)
    assert recorded["weight_norm"] == pytest.approx(norm(before), rel=1e-5)
    update = norm([new - old for new, old in zip(after, before, strict=True)])
    assert recorded["update_norm"] == pytest.approx(update, rel=1e-5)
    assert recorded["update_to_weight_ratio"] == pytest.approx(update / norm(before), rel=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_is_bit_for_bit_the_same(data, tmp_path, jit_compile):
    weights = []
    for recorder in (None, reszoo.GradientRecorder(tmp_path, every_steps=1)):
        model = compiled(small_model(), keras.optimizers.Adam(0.01), jit_compile=jit_compile)
        fit(model, data, recorder, epochs=5)
        assert model.optimizer.iterations == 20
        weights.append(model.get_weights())
    for plain, recorded in zip(*weights, strict=True):
        np.testing.assert_array_equal(plain, recorded)


def test_a_nested_block_is_recorded_and_trains_the_same(data, tmp_path):
    def model():
        keras.utils.set_random_seed(1)
        inner = ResidualBlock(BasicBranch(4), name="inner")
        outer = ResidualBlock([inner, BasicBranch(4)], name="outer")
        head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
        return compiled(keras.Sequential([keras.Input((8, 8, 4)), outer, *head]))

    plain, recorded = model(), model()
    fit(plain, data)
    fit(recorded, data, reszoo.GradientRecorder(tmp_path, every_steps=1))
    for before, after in zip(plain.get_weights(), recorded.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    of_blocks = values(tmp_path, 3)
    # What leaves the inner block is what comes back through the outer one's branch.
    assert of_blocks["inner"]["input_gradient_norm"] == pytest.approx(
        of_blocks["outer"]["branch_gradient_norm"], rel=1e-6
    )


def test_only_the_steps_asked_for_are_recorded(data, tmp_path):
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=3)
    fit(compiled(small_model()), data, recorder, epochs=2)
    assert sorted(set(load(str(tmp_path)).step)) == [0, 3, 6]
    assert epoch_starts(str(tmp_path)) == {0: 0, 4: 1}


def test_the_log_has_the_step_with_which_each_epoch_begins(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), ResidualBlock([keras.layers.Dense(4)], name="block")]
    )
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=100)
    # Of three batches each, in updates of two.
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    fit(model, (np.ones((6, 4)), np.zeros((6, 4))), recorder, epochs=3, batch_size=2)
    assert epoch_starts(str(tmp_path)) == {0: 0, 1: 1, 3: 2}
    # A training that goes on within an epoch does not begin that one.
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    recorder.log_dir = str(tmp_path / "loop")
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    recorder.begin_at(5)
    callbacks.on_train_begin()
    recorder.recorded(lambda: None)
    for epoch, batch in [(1, 2), (2, 0)]:
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch)
    callbacks.on_train_end()
    assert epoch_starts(recorder.log_dir) == {6: 2}


def test_a_second_fit_goes_on(data, tmp_path):
    model = compiled(small_model())
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=3)
    fit(model, data, recorder)
    fit(model, data, recorder)
    assert sorted(set(load(str(tmp_path)).step)) == [0, 3, 6]
    uninterrupted = compiled(small_model())
    other = tmp_path / "other"
    fit(uninterrupted, data, reszoo.GradientRecorder(other, every_steps=3), epochs=2)
    for block, expected in values(other, 6).items():
        assert values(tmp_path, 6)[block] == pytest.approx(expected, nan_ok=True)


def attributes(model):
    """Returns what may betray a recorder: names in the model's, optimizer's and blocks' dicts."""
    owners = [model, model.optimizer, *model.layers]
    return [sorted(vars(owner)) for owner in owners]


def test_nothing_is_left_when_training_ends(data, tmp_path):
    model = compiled(small_model())
    fit(model, data)
    before = attributes(model)
    fit(model, data, reszoo.GradientRecorder(tmp_path, every_steps=1))
    assert attributes(model) == before
    recorded = len(load(str(tmp_path)))
    fit(model, data)
    assert len(load(str(tmp_path))) == recorded


class Failing(keras.callbacks.Callback):
    """Raises in the middle of an epoch, outside the step."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_nothing_is_left_of_a_training_that_was_interrupted(data, tmp_path):
    model = compiled(small_model())
    fit(model, data)
    before = attributes(model)
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, 8, callbacks=[recorder, Failing()], verbose=0)
    recorded = load(str(tmp_path))
    assert sorted(set(recorded.step)) == [4, 5]
    fit(model, data)  # without the recorder
    assert attributes(model) == before
    assert len(load(str(tmp_path))) == len(recorded)


def test_nothing_is_left_when_a_step_raises(data, tmp_path):
    model = compiled(small_model(), run_eagerly=True)
    fit(model, data)
    before = attributes(model)
    wrong_labels = np.full(32, 7.0), data[1]
    with pytest.raises(Exception, match=r"shape|rank|incompatible"):
        fit(model, wrong_labels, reszoo.GradientRecorder(tmp_path, every_steps=1))
    assert attributes(model) == before
    fit(model, data, reszoo.GradientRecorder(tmp_path, every_steps=1))
    assert len(set(load(str(tmp_path)).step)) == 4


def content(path):
    """Returns the names and sizes of a saved model's parts."""
    with zipfile.ZipFile(path) as archive:
        return {part.filename: part.file_size for part in archive.infolist()}


def test_a_recorded_model_is_saved_as_the_plain_one(data, tmp_path):
    plain, recorded = compiled(small_model()), compiled(small_model())
    fit(plain, data)
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "during.keras"))
    recorder = reszoo.GradientRecorder(tmp_path / "log", every_steps=1)
    recorded.fit(*data, 8, shuffle=False, verbose=0, callbacks=[recorder, checkpoint])
    assert recorded.count_params() == plain.count_params()
    for name, model in (("plain", plain), ("recorded", recorded)):
        model.save(str(tmp_path / f"{name}.keras"))
    files = [tmp_path / f"{name}.keras" for name in ("plain", "recorded", "during")]
    assert content(files[0]) == content(files[1]) == content(files[2])
    loaded = [keras.models.load_model(str(file)) for file in files]
    for weights in zip(*(model.get_weights() for model in loaded), strict=True):
        np.testing.assert_array_equal(weights[0], weights[1])
        np.testing.assert_array_equal(weights[0], weights[2])


def test_every_block_of_a_resnet_is_recorded(tmp_path):
    model = compiled(ResNet18(3, (16, 16, 3), "cifar", width=4))
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    fit(model, (images, np.arange(8) % 3), reszoo.GradientRecorder(tmp_path, every_steps=1))
    recorded = values(tmp_path, 0)
    assert list(recorded) == [f"stage{s}_block{b}" for s in (1, 2, 3, 4) for b in (1, 2)]
    for statistics in recorded.values():
        assert statistics["skip_gradient_norm"] > 0
        assert statistics["branch_gradient_norm"] > 0
        assert statistics["update_norm"] > 0


def test_validation_and_prediction_are_not_recorded(data, tmp_path):
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    model = compiled(small_model())
    fit(model, data, recorder, validation_data=data)
    model.predict(data[0], verbose=0)
    assert sorted(set(load(str(tmp_path)).step)) == [0, 1, 2, 3]


@pytest.mark.parametrize("compiles_first", [False, True])
def test_a_loop_of_ones_own_is_recorded_as_fit_is(compiles_first, data, tmp_path):
    fit(compiled(small_model()), data, reszoo.GradientRecorder(tmp_path / "fit", every_steps=1))
    model = compiled(small_model())
    model.optimizer.build(model.trainable_variables)
    recorder = reszoo.GradientRecorder(tmp_path / "loop", every_steps=1)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)

    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = model.loss(labels, model(images, training=True))
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)

    callbacks.on_train_begin()
    if compiles_first:
        compiled_step = recorder.recorded(tf.function(step))
    else:
        compiled_step = tf.function(recorder.recorded(step))
    for batch in range(4):
        callbacks.on_train_batch_begin(batch)
        part = slice(8 * batch, 8 * batch + 8)
        compiled_step(*(tf.constant(array[part]) for array in data))
        callbacks.on_train_batch_end(batch)
    callbacks.on_train_end()
    for step in range(4):
        in_fit, in_loop = values(tmp_path / "fit", step), values(tmp_path / "loop", step)
        for block, expected in in_fit.items():
            assert in_loop[block] == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_a_loop_says_where_training_goes_on(data, tmp_path):
    # As after five steps that a loss scale made the optimizer skip.
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=2)
    recorder.begin_at(5)
    model = compiled(small_model())
    fit(model, data, recorder)
    assert sorted(set(load(tmp_path).step)) == [6, 8]
    fit(model, data, recorder)  # goes on from there, not from what the optimizer counted
    assert sorted(set(load(tmp_path).step)) == [6, 8, 10, 12]


def test_a_model_without_blocks_is_refused(data, tmp_path):
    layers = [keras.Input((8, 8, 4)), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = compiled(keras.Sequential(layers))
    with pytest.raises(ValueError, match="has no residual block"):
        fit(model, data, reszoo.GradientRecorder(tmp_path))
    assert not list(tmp_path.iterdir())
    fit(model, data)


def test_a_cadence_that_is_no_positive_integer_is_refused(tmp_path):
    for every_steps in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="at least 1"):
            reszoo.GradientRecorder(tmp_path, every_steps=every_steps)


def test_recording_a_step_before_training_begins_is_refused(tmp_path):
    with pytest.raises(ValueError, match="before training began"):
        reszoo.GradientRecorder(tmp_path).recorded(lambda: None)


def test_the_gradients_of_three_readers_are_added_as_without_a_recorder(tmp_path):
    weights = []
    for recorders in ([], [reszoo.GradientRecorder(tmp_path, 1)]):
        keras.utils.set_random_seed(0)
        given = keras.Input((6,))
        x = keras.layers.Dense(8)(given)
        branch = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(8)])
        outputs = [keras.layers.Dense(3)(ResidualBlock(branch)(x)), keras.layers.Dense(3)(x)]
        model = keras.Model(given, outputs)
        model.compile(keras.optimizers.SGD(0.1), ["mse", "mse"], run_eagerly=True)
        data = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
        y = np.ones((64, 3), "float32")
        model.fit(data, [y, y], 8, shuffle=False, verbose=0, callbacks=recorders)
        weights.append(model.get_weights())
    for plain, recorded in zip(*weights, strict=True):
        np.testing.assert_array_equal(plain, recorded)


def test_an_optimizer_that_begins_with_the_weights_has_them(tmp_path):
    weights = []
    for recorders in ([], [reszoo.GradientRecorder(tmp_path, 1)]):
        model = compiled(small_model(), keras.optimizers.ScheduleFreeAdamW(0.01))
        if not recorders:  # otherwise Keras builds it within the step, where it begins with zeros
            model.optimizer.build(model.trainable_variables)
        x = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype("float32")
        model.fit(x, np.arange(8) % 3, 4, shuffle=False, verbose=0, callbacks=recorders)
        weights.append(model.get_weights())
    for plain, recorded in zip(*weights, strict=True):
        np.testing.assert_allclose(plain, recorded, rtol=1e-5, atol=1e-6)
