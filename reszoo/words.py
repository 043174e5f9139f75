"""Words that a configuration may have, in lists that import no framework.

So a mistyped word is told before TensorFlow is imported. Tests compare the lists with the tables of
what is behind the words.
"""

# For models.
MODELS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50v1",
    "resnet101v1",
    "resnet152v1",
    "resnet18v2",
    "resnet34v2",
    "resnet50v2",
    "resnet101v2",
    "resnet152v2",
    "resnet50v2_keras",
    "resnet101v2_keras",
    "resnet152v2_keras",
    "resnet18d",
    "resnet34d",
    "resnet50d",
    "resnet101d",
    "resnet152d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "seresnet50",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet110v2",
    "resnet164v2",
    "resnet1001v2",
    "revnet38",
    "revnet110",
    "revnet164",
    "wide_resnet28_10",
    "wide_resnet16_8",
    "plain18",
    "plain34",
    "plain20",
    "plain56",
    "plain110",
    "resnet18_1d",
    "resnet34_1d",
    "resnet50_1d",
    "resnet101_1d",
    "resnet152_1d",
    "resnet18_3d",
    "resnet34_3d",
    "resnet50_3d",
    "resnet101_3d",
    "resnet152_3d",
    "residual_mlp",
)
SHORTCUTS = (
    "projection",
    "always_projection",
    "zero_pad",
    "none",
    "stop_gradient",
    "constant_scale",
    "gated",
    "dropout",
)
GATES = (
    "stop_branch_output",
    "stop_branch_input",
    "stop_skip",
    "scale_branch",
    "scale_skip",
    "half_both",
    "exclusive",
)
NORMS = (
    "batch",
    "sync_batch",
    "group",
)
STEMS = ("imagenet", "deep", "cifar")
STRIDES_AT = ("first", "last")
PADDINGS = ("symmetric", "same", "valid")
ACTIVATIONS = (
    "celu",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
)
DTYPES = (
    "float32",
    "mixed_bfloat16",
    "mixed_float16",
    "bfloat16",
    "float16",
    "float64",
)

# For training.
LOSSES = ("categorical_crossentropy", "binary_crossentropy")
OPTIMIZERS = ("sgd", "adamw", "lamb", "muon")
SCHEDULES = ("cosine", "polynomial", "step")
STRATEGIES = ("auto", "cpu", "gpu", "mirrored", "multi_worker", "tpu")

# For data: names, and beginnings of names that a path follows, each with an example.
DATA_SETS = ("digits", "mnist5k", "synthetic")
DATA_SETS_WITH_PATH = {
    "folder:": "folder:photos",
    "tfrecord:": "tfrecord:records/*-of-*",
    "idx:": "idx:fashion-mnist",
}


def check_data_set(name: str) -> None:
    """Checks that a name is one of a data set, which may yet be missing.

    Args:
        name: A name that `reszoo.data.load_source` takes.

    Raises:
        ValueError: If it is none.
    """
    if name in DATA_SETS or name.startswith("tfds:"):
        return
    if name.strip() in DATA_SETS_WITH_PATH:
        raise ValueError(
            f"The name of the data set must have a path after {name.strip()!r}, such as "
            f"{DATA_SETS_WITH_PATH[name.strip()]!r}, but has none."
        )
    if not name.startswith(tuple(DATA_SETS_WITH_PATH)):
        raise ValueError(
            f'There is no data set {name!r}. Give "digits", "mnist5k", "synthetic", "folder:" and '
            'a path, "tfrecord:" and a pattern, "idx:" and a path, or "tfds:" and the name of a '
            'TensorFlow data set, for example "tfds:cifar10".'
        )
