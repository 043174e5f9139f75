import keras
import numpy as np
import tensorflow as tf

from reszoo.data import load_source
from reszoo.training import export_run


def test_the_exported_model_answers_the_same(config, workdir):
    exported = tf.saved_model.load(export_run(config, workdir))
    model = keras.models.load_model(workdir / "model.keras")
    images, _ = next(iter(load_source("digits").test.batch(7)))
    np.testing.assert_allclose(exported.serve(images), model(images), rtol=1e-4, atol=1e-5)
