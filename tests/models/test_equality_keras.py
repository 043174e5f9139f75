"""Outputs, feature maps and input gradients equal keras.applications' and KerasHub's."""

import keras
import numpy as np
import pytest

from reszoo.models import create_model, load_weights

from .references import assert_close, images, randomize, run

# Both libraries' models cast their images to float32, and their gradient leaves through that cast.
GRADIENT_TOLERANCE = {"float32": None, "float64": np.finfo(np.float32).eps}
V1_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def stage_ends(depth):
    return [(stage, blocks) for stage, blocks in enumerate(V1_BLOCKS[depth], start=1)]


@pytest.mark.parametrize("version", ["v1", "v2_keras"])
@pytest.mark.parametrize(
    ("depth", "dtype"), [(50, "float32"), (50, "float64"), (101, "float64"), (152, "float64")]
)
def test_keras_applications(depth, version, dtype):
    keras.config.set_dtype_policy(dtype)
    suffix = "" if version == "v1" else "V2"
    theirs = getattr(keras.applications, f"ResNet{depth}{suffix}")(
        weights=None, input_shape=images(dtype).shape[1:], classes=10, classifier_activation=None
    )
    randomize(theirs)
    ours = create_model(
        f"resnet{depth}{version}", num_classes=10, input_shape=images(dtype).shape[1:]
    )
    assert load_weights(ours, theirs) == []
    x = images(dtype)
    their_names = [f"conv{stage + 1}_block{block}_out" for stage, block in stage_ends(depth)]
    names = [f"stage{stage}_block{block}" for stage, block in stage_ends(depth)]
    their_results = run(theirs, x, their_names)
    renamed = dict(zip(their_names, names, strict=True))
    their_results = {renamed.get(name, name): value for name, value in their_results.items()}
    assert_close(run(ours, x, names), their_results, dtype, GRADIENT_TOLERANCE[dtype])


@pytest.fixture
def keras_hub():
    return pytest.importorskip("keras_hub", reason="keras-hub is not installed (extra: references)")


BASIC, BOTTLENECK = (2, 2, 2, 2), (3, 4, 6, 3)


@pytest.mark.parametrize(
    ("name", "blocks", "block_type", "stem", "preactivation"),
    [
        ("resnet18", BASIC, "basic_block", (64,), False),
        ("resnet50", BOTTLENECK, "bottleneck_block", (64,), False),
        ("resnet18v2", BASIC, "basic_block", (64,), True),
        ("resnet50v2", BOTTLENECK, "bottleneck_block", (64,), True),
        ("resnet50d", BOTTLENECK, "bottleneck_block_vd", (32, 32, 64), False),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keras_hub(keras_hub, name, blocks, block_type, stem, preactivation, dtype):
    keras.config.set_dtype_policy(dtype)
    theirs = keras_hub.models.ResNetBackbone(
        input_conv_filters=list(stem),
        input_conv_kernel_sizes=[7] if len(stem) == 1 else [3, 3, 3],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(blocks),
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block_type,
        use_pre_activation=preactivation,
        image_shape=images(dtype).shape[1:],
    )
    randomize(theirs)
    ours = create_model(name, num_classes=0, input_shape=images(dtype).shape[1:])
    assert load_weights(ours, theirs) == []
    x = images(dtype)
    names = [f"stage{stage}_block{count}" for stage, count in enumerate(blocks, start=1)]
    their_names = [f"stack{stage}_block{count - 1}_out" for stage, count in enumerate(blocks)]
    their_results = run(pooled(theirs), x, their_names)
    renamed = dict(zip(their_names, names, strict=True))
    their_results = {renamed.get(key, key): value for key, value in their_results.items()}
    assert_close(run(ours, x, names), their_results, dtype, GRADIENT_TOLERANCE[dtype])


def pooled(backbone):
    return keras.Model(backbone.inputs, keras.layers.GlobalAveragePooling2D()(backbone.output))
