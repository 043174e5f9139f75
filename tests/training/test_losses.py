import keras
import numpy as np
import pytest
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import load_source
from reszoo.training.config import complete
from reszoo.training.losses import ClassificationLoss, balanced_weights, create_loss, loss_of

LABELS = np.array([2, 0, 1, 2], "int32")
LOGITS = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
MIXED = np.array([[0.7, 0.3, 0], [0.1, 0.1, 0.8], [0, 1, 0], [0.5, 0, 0.5]], "float32")


def found(labels, **options):
    return ClassificationLoss(**options).call(tf.constant(labels), tf.constant(LOGITS)).numpy()


def log_sigmoid(x):
    return -np.log1p(np.exp(-x.astype("float64")))


def test_the_cross_entropy_written_out():
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found(LABELS), -log_softmax[range(4), LABELS], rtol=1e-5)
    np.testing.assert_allclose(found(MIXED), -(MIXED * log_softmax).sum(axis=1), rtol=1e-5)


def test_classes_may_be_a_column():
    weights = (0.5, 1.0, 4.0)
    column = found(LABELS[:, None], class_weights=weights)
    np.testing.assert_array_equal(column, found(LABELS, class_weights=weights))


@pytest.mark.parametrize("labels", [LABELS, MIXED])
def test_the_binary_cross_entropy_written_out(labels):
    shares = labels if labels.ndim == 2 else np.eye(3)[labels]
    expected = -(shares * log_sigmoid(LOGITS) + (1 - shares) * log_sigmoid(-LOGITS)).mean(axis=1)
    np.testing.assert_allclose(found(labels, kind="binary_crossentropy"), expected, rtol=1e-5)


def test_above_the_threshold_a_class_is_right():
    options = {"kind": "binary_crossentropy", "target_threshold": 0.2}
    whole = np.array([[1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 1]], "float32")
    expected = found(whole, kind="binary_crossentropy")
    np.testing.assert_allclose(found(MIXED, **options), expected, rtol=1e-6)


def test_class_weights_are_keras_own():
    weights = (0.5, 1.0, 4.0)
    same = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((3,)), same])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    expected = model.train_on_batch(LOGITS, LABELS, class_weight=dict(enumerate(weights)))
    assert found(LABELS, class_weights=weights).mean() == pytest.approx(float(expected), rel=1e-5)


def test_a_mixed_label_weighs_as_its_shares():
    weights = np.array([0.5, 1.0, 4.0])
    expected = found(MIXED) * (MIXED @ weights)
    np.testing.assert_allclose(found(MIXED, class_weights=tuple(weights)), expected, rtol=1e-5)
    loss = ClassificationLoss(class_weights=tuple(weights))
    unweighted = loss.unweighted(tf.constant(MIXED), tf.constant(LOGITS))
    np.testing.assert_allclose(unweighted, found(MIXED), rtol=1e-6)


def test_with_balanced_weights_every_class_has_the_same_sum():
    counts = np.array([5, 20, 75])
    weights = np.array(balanced_weights(counts.tolist()))
    np.testing.assert_allclose(weights * counts, [100 / 3] * 3)
    with pytest.raises(ValueError, match="the class 1 has none"):
        balanced_weights([3, 0])


def test_half_precision_logits_are_taken_in_single_precision():
    logits = tf.cast(LOGITS, tf.bfloat16)
    loss = ClassificationLoss().call(tf.constant(LABELS), logits)
    assert loss.dtype == tf.float32


def test_a_loss_survives_saving_and_is_found_in_its_model(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    given = {"kind": "binary_crossentropy", "class_weights": (1.0, 2.0, 3.0)}
    model.compile("sgd", ClassificationLoss(**given, target_threshold=0.1))
    model.save(tmp_path / "model.keras")
    again = loss_of(keras.models.load_model(tmp_path / "model.keras"))
    assert (again.kind, again.class_weights, again.target_threshold) == (*given.values(), 0.1)
    assert loss_of(keras.Sequential()).kind == "categorical_crossentropy"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mse"}, "no loss 'mse'. Give one of categorical_crossentropy, binary"),
        ({"class_weights": (1.0, -1.0)}, r"^class_weights must be .* \(see element 1, -1.0\)"),
        ({"class_weights": (1.0, float("nan"))}, r"^class_weights must be .* \(see element 1, nan"),
        ({"class_weights": (0.0, 0.0)}, "must not be all 0"),
        ({"target_threshold": 1.0}, "target_threshold must be a number of at least 0 and below 1"),
    ],
)
def test_bad_losses(options, message):
    with pytest.raises(ValueError, match=message):
        ClassificationLoss(**options)


def configured(**options):
    return create_loss(complete(ConfigDict({"loss": options})).loss, load_source("digits"))


@pytest.mark.parametrize("balanced", ["balanced", ("balanced",)])
def test_weights_that_balance_a_data_set(balanced):
    labels = np.array([label for _, label in load_source("digits").train.as_numpy_iterator()])
    weights = np.array(configured(class_weights=balanced).class_weights)
    assert weights[labels].mean() == pytest.approx(1)
    np.testing.assert_allclose(weights * np.bincount(labels), [143.7] * 10)


@pytest.mark.parametrize("weights", [(1.0, 2.0), "even", ("even",)])
def test_weights_that_do_not_fit_the_classes(weights):
    with pytest.raises(ValueError, match='"balanced", or 10 numbers'):
        configured(class_weights=weights)
