"""Steps of one's own on PyTorch are recorded: several passes, optimizers, recorders, odd blocks."""

import contextlib

import keras
import numpy as np
import pytest
import torch

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients import NonFinite, gradient_by_path_length, instrument, load
from reszoo.gradients.log.reader import losses
from tests.gradients.dense import (
    BATCH,
    BATCHES,
    LABELS,
    LOSS,
    X,
    assert_recorded,
    dense_model,
    recorded,
    sgd,
    with_weights,
)
from tests.on_torch.by_hand import assert_same, forward, gradients_of, training_by_hand


@pytest.fixture(scope="module")
def by_hand():
    return training_by_hand(dense_model(), sgd(), BATCHES, LOSS)


def fit(model, *recorders, data=(X, LABELS)):
    """Returns the weights of a compiled model after an epoch."""
    model.fit(*data, BATCH, shuffle=False, verbose=0, callbacks=list(recorders))
    return [v.numpy().copy() for v in model.variables]


def compiled(model, optimizer=None):
    model.compile(optimizer or sgd(), LOSS)
    return model


class ByGrad(keras.Sequential):
    """A model whose step has gradients from `torch.autograd.grad`, which names its inputs."""

    def train_step(self, data):
        x, y = data
        loss = self.compute_loss(x, y, self(x, training=True))
        variables = self.trainable_variables
        gradients = torch.autograd.grad(loss, [variable.value for variable in variables])
        with torch.no_grad():
            self.optimizer.apply(gradients, variables)
        return {"loss": loss.detach()}


def test_a_pass_to_the_weights_alone_reaches_the_first_fork(by_hand, tmp_path):
    model = compiled(dense_model(ByGrad))
    weights = fit(model, reszoo.GradientRecorder(tmp_path, 1))
    assert_recorded(tmp_path, by_hand)
    assert_same(weights, fit(compiled(dense_model(ByGrad))))


class Unused(ByGrad):
    def train_step(self, data):
        torch.autograd.grad(self(data[0]).sum(), [torch.zeros(1, requires_grad=True)])


def test_an_input_that_is_not_used_is_an_error_as_without_a_recorder(tmp_path):
    for recorders in ([], [reszoo.GradientRecorder(tmp_path, 1)]):
        with pytest.raises(RuntimeError, match="allow_unused=True"):
            fit(compiled(dense_model(Unused)), *recorders)


class ByTransform(keras.Sequential):
    def train_step(self, data):
        torch.func.grad(lambda x: self(x).sum())(data[0])


def test_gradients_by_torch_func_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"torch\.func computes cannot be recorded. Compute"):
        fit(compiled(dense_model(ByTransform)), reszoo.GradientRecorder(tmp_path, 1))


class WithPenalty(keras.Sequential):
    """A model whose loss has the squared gradient at the input in it."""

    def penalized(self, x, loss_of):
        x = x.detach().requires_grad_()
        loss = loss_of(x)
        (at_input,) = torch.autograd.grad(loss, [x], create_graph=True)
        return loss + (at_input**2).sum()

    def train_step(self, data):
        x, y = data
        loss = self.penalized(x, lambda x: LOSS(y, self(x, training=True)))
        self.zero_grad()
        loss.backward()
        with torch.no_grad():
            variables = self.trainable_variables
            self.optimizer.apply([variable.value.grad for variable in variables], variables)
        return {"loss": loss.detach()}


def test_of_a_penalty_on_gradients_the_pass_that_trains_is_recorded(tmp_path):
    model, (x, labels) = dense_model(WithPenalty), BATCHES[0]
    seen = {}

    def loss_of(x):
        logits, places = forward(model.layers, x)
        seen.update(places)
        return LOSS(torch.as_tensor(labels), logits)

    total = model.penalized(torch.as_tensor(x), loss_of)
    expected = {
        name: gradients_of(total, (to_skip, to_branch, y))
        for name, (to_skip, to_branch, _, _, y) in seen.items()
    }
    recorder = reszoo.GradientRecorder(tmp_path, 1, ("paths",))
    weights = fit(compiled(dense_model(WithPenalty)), recorder, data=BATCHES[0])
    for block, gradients in expected.items():
        for name, gradient in zip(("skip", "branch", "output"), gradients, strict=True):
            found = recorded(tmp_path)[0][block][f"{name}_gradient_norm"]
            assert found == pytest.approx(np.linalg.norm(gradient), rel=1e-4, abs=1e-7)
    assert_same(weights, fit(compiled(dense_model(WithPenalty)), data=BATCHES[0]))


class Adversarial(keras.Model):
    """Two networks with an optimizer each; the second is trained through the first."""

    def __init__(self):
        super().__init__()
        first = [keras.Input((6,)), ResidualBlock([keras.layers.Dense(6, "tanh")], name="critic")]
        second = [keras.Input((6,)), ResidualBlock([keras.layers.Dense(6, "tanh")], name="maker")]
        self.critic = with_weights(keras.Sequential([*first, keras.layers.Dense(1)]))
        self.maker = with_weights(keras.Sequential(second))
        self.seconds = sgd()

    def call(self, x):
        return self.critic(self.maker(x))

    def critic_loss(self, x):
        return (self.critic(x) ** 2).mean() - self.critic(self.maker(x).detach()).mean()

    def train_step(self, data):
        x, _ = data
        for loss_of, part, optimizer in (
            (self.critic_loss, self.critic, self.optimizer),
            (lambda x: self(x).mean(), self.maker, self.seconds),
        ):
            self.zero_grad()
            loss = loss_of(x)
            loss.backward()
            with torch.no_grad():
                variables = part.trainable_variables
                optimizer.apply([variable.value.grad for variable in variables], variables)
        return {"loss": loss.detach()}


def test_of_two_networks_each_is_recorded_in_the_pass_that_trains_it(tmp_path):
    model, (x, _) = Adversarial(), BATCHES[0]
    block, head = model.critic.layers
    x = torch.as_tensor(x)
    of_data, places = forward([block], x)
    of_made, other = forward([block], model.maker(x).detach())
    loss = (head(of_data) ** 2).mean() - head(of_made).mean()
    calls = [gradients_of(loss, [p["critic"][i] for p in (places, other)]) for i in (0, 1)]
    # Neither of the two losses is that of all blocks.
    with pytest.warns(UserWarning, match="'adversarial': the loss of a recorded step is left out"):
        fit(compiled(model), reszoo.GradientRecorder(tmp_path, 1), data=BATCHES[0])
    assert losses(str(tmp_path)) == {}
    found = recorded(tmp_path)[0]
    for path, gradients in zip(("skip", "branch"), calls, strict=True):
        expected = pytest.approx(np.linalg.norm(np.concatenate(gradients)), rel=1e-5)
        assert found["critic"][f"{path}_gradient_norm"] == expected
    assert found["critic"]["update_norm"] > 0
    assert found["maker"]["skip_gradient_norm"] > 0
    assert found["maker"]["update_norm"] > 0


class ByFactors(keras.Sequential):
    """A model whose passes start from tensors, each with the factor of its gradient."""

    def train_step(self, data):
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(x, y, self(x, training=True))
        torch.autograd.backward(*self.started_from(loss))
        self.optimizer.apply([v.value.grad for v in self.trainable_variables])
        return {"loss": loss.detach()}


def test_the_loss_is_what_the_pass_starts_from(by_hand, tmp_path):
    starts = {
        "two": (lambda loss: ([loss, 2 * loss], [None, None]), 3.0),
        "half": (lambda loss: ([loss], [torch.tensor(0.5)]), 0.5),
        "one value": (lambda loss: ([loss[None]], [torch.ones(1)]), 1.0),
        "several values": (lambda loss: ([loss * torch.ones(2)], [torch.ones(2)]), None),
    }
    for name, (started_from, factor) in starts.items():
        model = compiled(dense_model(ByFactors))
        model.started_from = started_from
        is_told = pytest.warns(UserWarning, match="loss of a recorded step is left out")
        with is_told if factor is None else contextlib.nullcontext():
            fit(model, reszoo.GradientRecorder(tmp_path / name, 1), data=BATCHES[0])
        expected = {} if factor is None else {0: factor * by_hand[0].loss}
        assert losses(str(tmp_path / name)) == pytest.approx(expected, rel=1e-5), name


def test_two_recorders_observe_one_training(by_hand, tmp_path):
    recorders = [reszoo.GradientRecorder(tmp_path / str(every), every) for every in (1, 2)]
    weights = fit(compiled(dense_model()), *recorders)
    assert_recorded(tmp_path / "1", by_hand)
    assert_recorded(tmp_path / "2", by_hand, steps=[0, 2])
    assert_same(weights, fit(compiled(dense_model())))


class Interrupt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_a_training_goes_on_after_an_interruption(by_hand, tmp_path):
    model = compiled(dense_model())
    recorder = reszoo.GradientRecorder(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=[recorder, Interrupt()])
    fit(model, recorder, data=(X[2 * BATCH :], LABELS[2 * BATCH :]))
    assert_recorded(tmp_path, by_hand)
    assert "train_step" not in vars(model)


def test_an_alarm_stops_training(tmp_path):
    x = X.copy()
    x[BATCH] = np.nan
    recorder = reszoo.GradientRecorder(tmp_path, 1, alarms=[NonFinite(stop_training=True)])
    fit(compiled(dense_model()), recorder, data=(x, LABELS))
    assert sorted(recorded(tmp_path)) == [0, 1]


def functional():
    inputs = keras.Input((6,))
    branch = keras.layers.Dense(6, "tanh", name="dense")(inputs)
    y = keras.layers.Activation("relu")(keras.layers.Add(name="add")([inputs, branch]))
    return with_weights(
        keras.Model(inputs, keras.layers.Dense(3, name="logits")(y), name="functional")
    )


def test_additions_of_a_functional_model_are_recorded(tmp_path):
    model, (x, labels) = functional(), BATCHES[0]
    to_skip, to_branch = (torch.as_tensor(x).clone().requires_grad_() for _ in range(2))
    y = to_skip + model.get_layer("dense")(to_branch)
    logits = model.layers[-1](torch.relu(y))
    gradients = gradients_of(LOSS(torch.as_tensor(labels), logits), (to_skip, to_branch, y))
    recorder = reszoo.GradientRecorder(tmp_path, 1, blocks=instrument(model))
    weights = fit(compiled(model), recorder, data=BATCHES[0])
    for name, gradient in zip(("skip", "branch", "output"), gradients, strict=True):
        found = recorded(tmp_path)[0]["add"][f"{name}_gradient_norm"]
        assert found == pytest.approx(np.linalg.norm(gradient), rel=1e-5)
    assert_same(weights, fit(compiled(functional()), data=BATCHES[0]))


def test_layers_whose_inside_is_not_searched_are_named():
    class Positions(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:])

        def call(self, x):
            return keras.ops.broadcast_to(self.table, keras.ops.shape(x))

    inputs = keras.Input((4,))
    x = keras.layers.Add(name="no_block")([inputs, Positions(name="mine")(inputs)])
    x = keras.layers.Add(name="addition")([x, keras.layers.Dense(4)(x)])
    model = keras.Model(inputs, x)
    with pytest.warns(UserWarning, match="'mine' .only on TensorFlow blocks inside of layers"):
        assert list(instrument(model)) == ["addition"]


def images():
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((8, 8, 3)),
        ResidualBlock(reszoo.BasicBranch(3), activation="relu", name="identity"),
        ResidualBlock(
            [reszoo.BasicBranch(4, strides=2), keras.layers.Dropout(0.2)],
            reszoo.ProjectionShortcut(4, strides=2),
            name="strided",
        ),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
    ]
    return keras.Sequential(layers)


def test_a_network_of_convolutions_trains_as_without_a_recorder(tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    trained = []
    for recorders in ([reszoo.GradientRecorder(tmp_path, 1)], []):
        model = compiled(images(), keras.optimizers.Adam(0.01))
        model.fit(x, LABELS[:8], 4, shuffle=False, verbose=0, callbacks=recorders)
        variables = (*model.variables, *model.optimizer.variables)
        trained.append([v.numpy().copy() for v in variables])
    assert_same(*trained)
    assert np.isfinite(load(str(tmp_path)).value.astype(float)).all()


@pytest.mark.parametrize("in_place", ["branch", "activation"])
def test_a_layer_that_works_in_place_trains_as_without_a_recorder(in_place, tmp_path):
    def model():
        relu = torch.nn.ReLU(inplace=True)
        layers = [keras.layers.Dense(6)]
        if in_place == "branch":
            layers = [keras.layers.TorchModuleWrapper(relu), *layers]
        block = ResidualBlock(layers, name="b", activation=relu if in_place != "branch" else None)
        return with_weights(keras.Sequential([keras.Input((6,)), block, keras.layers.Dense(3)]))

    weights = fit(compiled(model()), reszoo.GradientRecorder(tmp_path, 1))
    assert_same(weights, fit(compiled(model())))
    assert recorded(tmp_path)[0]["b"]["branch_gradient_norm"] > 0


class WithoutSecond(keras.Model):
    """A model one of whose blocks does not run, and another only without gradients."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third, self.head = dense_model().layers
        self.built = True

    def call(self, x):
        with torch.no_grad():
            self.third(x)
        return self.head(self.first(x))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_what_no_pass_reaches_is_named_in_a_warning(tmp_path):
    recorder = reszoo.GradientRecorder(tmp_path, 1, ("paths",))
    with pytest.warns(UserWarning, match=r"no backward pass reached 1 of the blocks \(projection"):
        fit(compiled(WithoutSecond()), recorder, data=BATCHES[0])
    found = recorded(tmp_path)[0]
    assert np.isnan(found["projection"]["skip_gradient_norm"])
    assert found["stopped"]["branch_gradient_norm"] == 0
    assert found["identity"]["skip_gradient_norm"] > 0


def test_the_gradient_by_path_length_is_that_of_each_path():
    keras.utils.set_random_seed(1)
    blocks = [ResidualBlock([keras.layers.Dense(6, "tanh")], name=f"b{i}") for i in range(2)]
    head = keras.layers.Dense(3)
    model = keras.Sequential([keras.Input((6,)), *blocks, head])
    x, labels = BATCHES[0]
    table = gradient_by_path_length(model, x, labels, LOSS)
    assert table.length.tolist() == [0, 1, 1, 2]
    for norm, taken in zip(table.gradient_norm, [(), (0,), (1,), (0, 1)], strict=True):
        start = y = torch.as_tensor(x).clone().requires_grad_()
        for position, block in enumerate(blocks):
            skip, branch = (y, y.detach()) if position not in taken else (y.detach(), y)
            y = skip + block.branch(branch)
        (gradient,) = torch.autograd.grad(LOSS(torch.as_tensor(labels), head(y)), [start])
        assert norm == pytest.approx(float(gradient.norm()), rel=1e-5)
