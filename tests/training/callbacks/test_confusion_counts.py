import keras
import numpy as np
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from reszoo.data import Pipeline, load_source
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.loop import evaluate


def test_the_counts_are_those_of_scikit_learn(workdir):
    model = keras.models.load_model(workdir / "model.keras")
    source = load_source("digits")
    confusion = ConfusionCounts(10)
    # The last batch has 60 images of 100.
    for _ in range(2):
        evaluate(model, Pipeline(source, batch_size=100), callbacks=[confusion])
    images, labels = next(iter(source.test.batch(360)))
    answers = model.predict(images, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(confusion.counts, sklearn_confusion_matrix(labels, answers))
