"""Outputs, every stage's feature map and the input gradient equal torchvision's and timm's."""

import re
import warnings

import keras
import numpy as np
import pytest

from reszoo.layers import Convolution, MaxPool, post_activation
from reszoo.models import Scheme, create_model, load_weights, save_weights
from reszoo.models.weight_names import SCHEMES

from .references import assert_close, images, run

torch = pytest.importorskip("torch", reason="torch is not installed (extra: references)")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def torchvision():
    # The CPU build of torchvision leaves out the operators that it registers shapes for.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        module = pytest.importorskip(
            "torchvision", reason="torchvision is not installed (extra: references)"
        )
        yield module
    finally:
        del library


@pytest.fixture(scope="module")
def timm(torchvision):
    return pytest.importorskip("timm", reason="timm is not installed (extra: references)")


def randomized(model, dtype):
    """Returns the torch model with random normalizations, for inference."""
    generator = torch.Generator().manual_seed(1)
    model = model.to(getattr(torch, dtype)).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.ndim == 1:
                low, high = (-0.2, 0.2) if key.endswith(("bias", "mean")) else (0.5, 1.5)
                value.uniform_(low, high, generator=generator)
    return model


def run_torch(model, x, stages):
    """Returns as `references.run` does, channels last."""
    seen = {}
    for name, module in stages.items():
        module.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output}))
    x = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    seen["output"] = model(x)
    seen["output"].square().sum().backward()
    seen["gradient"] = x.grad
    arrays = {name: tensor.detach().numpy() for name, tensor in seen.items()}
    return {
        name: np.moveaxis(array, 1, -1) if array.ndim == 4 else array
        for name, array in arrays.items()
    }


def last_blocks(model):
    """Returns the name of each stage's last block."""
    names = [layer.name for layer in model.layers if "_block" in layer.name]
    return list({name[:6]: name for name in names if "preactivation" not in name}.values())


def compare(theirs, name, dtype, tmp_path, scheme, **options):
    keras.config.set_dtype_policy(dtype)
    theirs = randomized(theirs, dtype)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    x = images(dtype)
    ours = create_model(name, input_shape=x.shape[1:], **options)
    assert load_weights(ours, tmp_path / "weights.pt", scheme) == []
    names = last_blocks(ours)
    stages = getattr(theirs, "stages", None) or [theirs.layer1, theirs.layer2, theirs.layer3]
    assert_close(
        run(ours, x, names), run_torch(theirs, x, dict(zip(names, stages, strict=False))), dtype
    )
    return ours, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision(torchvision, name, dtype, tmp_path):
    theirs = getattr(torchvision.models, name)(num_classes=10)
    compare(theirs, name, dtype, tmp_path, "torchvision", num_classes=10)


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2"]
)
def test_more_of_torchvision(torchvision, name, tmp_path):
    theirs = getattr(torchvision.models, name)(num_classes=10)
    compare(theirs, name, "float64", tmp_path, "torchvision", num_classes=10)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_output_stride_is_torchvisions_dilation(torchvision, output_stride, tmp_path):
    dilate = [False, output_stride == 8, True]
    theirs = torchvision.models.resnet50(num_classes=10, replace_stride_with_dilation=dilate)
    options = {"output_stride": output_stride, "num_classes": 10}
    compare(theirs, "resnet50", "float64", tmp_path, "torchvision", **options)


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("resnet18d", "resnet18d"),
        ("resnet50d", "resnet50d"),
        ("seresnet50", "seresnet50"),
        ("resnetv2_18", "resnet18v2"),
        ("resnetv2_50", "resnet50v2"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_timm(timm, theirs, name, dtype, tmp_path):
    compare(
        timm.create_model(theirs, num_classes=10), name, dtype, tmp_path, "timm", num_classes=10
    )


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("resnet34d", "resnet34d"),
        ("resnet101d", "resnet101d"),
        ("resnet152d", "resnet152d"),
        ("wide_resnet101_2", "wide_resnet101_2"),
        ("resnext101_32x8d", "resnext101_32x8d"),
        ("resnetv2_34", "resnet34v2"),
        ("resnetv2_101", "resnet101v2"),
        ("resnetv2_152", "resnet152v2"),
    ],
)
def test_more_of_timm(timm, theirs, name, tmp_path):
    theirs = timm.create_model(theirs, num_classes=10)
    compare(theirs, name, "float64", tmp_path, "timm", num_classes=10)


def test_output_stride_is_timms_in_basic_blocks(timm, tmp_path):
    theirs = timm.create_model("resnet18", num_classes=10, output_stride=8)
    options = {"output_stride": 8, "num_classes": 10}
    compare(theirs, "resnet18", "float64", tmp_path, "timm", **options)


def test_group_normalization_with_weight_standardization_is_timms(timm, tmp_path):
    from functools import partial

    from timm.layers import GroupNormAct, StdConv2d
    from timm.models.resnetv2 import ResNetV2

    theirs = ResNetV2(
        layers=[2, 2, 2, 2],
        num_classes=10,
        stem_type="",
        norm_layer=partial(GroupNormAct, num_groups=32),
        conv_layer=partial(StdConv2d, eps=1e-4),
    )
    options = {"norm": "group", "blocks": (2, 2, 2, 2), "num_classes": 10}
    # timm adds epsilon to the weights' variance as batch normalization does; ours is 1e-8.
    for module in theirs.modules():
        if isinstance(module, StdConv2d):
            module.eps = 1e-8
    compare(theirs, "resnet50v2", "float64", tmp_path, "timm", **options)


@pytest.mark.parametrize(
    ("theirs", "name", "scheme"),
    [
        ("resnet18", "resnet18", "torchvision"),
        ("resnet50d", "resnet50d", "timm"),
        ("seresnet50", "seresnet50", "timm"),
        ("resnetv2_50", "resnet50v2", "timm"),
    ],
)
def test_saved_weights_load_in_torch_bit_for_bit(timm, theirs, name, scheme, tmp_path):
    from safetensors.torch import load_file

    ours = create_model(name, num_classes=10, input_shape=(64, 64, 3))
    save_weights(ours, tmp_path / "weights.safetensors", format=scheme)
    state = load_file(tmp_path / "weights.safetensors")
    theirs = timm.create_model(theirs, num_classes=10)
    expected = {k: v.shape for k, v in theirs.state_dict().items() if "num_batches" not in k}
    assert {key: value.shape for key, value in state.items()} == expected
    theirs.load_state_dict(state, strict=False)
    again = create_model(name, num_classes=10, input_shape=(64, 64, 3))
    torch.save(theirs.state_dict(), tmp_path / "back.pt")
    load_weights(again, tmp_path / "back.pt")
    for first, second in zip(ours.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pt")
    model = create_model("resnet18", width=8, num_classes=10)
    with pytest.raises(ValueError, match="no torch file of tensors"):
        load_weights(model, tmp_path / "evil.pt")


def outputs_of_torch(model, x):
    with torch.no_grad():
        return {"output": model(torch.tensor(np.moveaxis(x, -1, 1))).numpy()}


class Bottleneck3D(torch.nn.Module):
    """A bottleneck of torch's own 3-D layers, with the stride on the second convolution."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        conv, norm = torch.nn.Conv3d, torch.nn.BatchNorm3d
        self.conv1, self.bn1 = conv(channels, filters, 1, bias=False), norm(filters)
        self.conv2 = conv(filters, filters, 3, stride, padding=1, bias=False)
        self.bn2 = norm(filters)
        self.conv3, self.bn3 = conv(filters, 4 * filters, 1, bias=False), norm(4 * filters)
        shortcut = conv(channels, 4 * filters, 1, stride, bias=False), norm(4 * filters)
        self.downsample = None if channels == 4 * filters else torch.nn.Sequential(*shortcut)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        s = x if self.downsample is None else self.downsample(x)
        return torch.relu(s + self.bn3(self.conv3(y)))


class ResNet3D(torch.nn.Module):
    """A ResNet for volumes whose layers keep the first axis: strides are (1, 2, 2)."""

    def __init__(self, blocks, width):
        super().__init__()
        self.conv1 = torch.nn.Conv3d(2, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.bn1 = torch.nn.BatchNorm3d(width)
        channels = width
        for stage, count in enumerate(blocks):
            made = []
            for block in range(count):
                filters, stride = width * 2**stage, (1, 2, 2) if stage and not block else 1
                made.append(Bottleneck3D(channels, filters, stride))
                channels = 4 * filters
            self.add_module(f"layer{stage + 1}", torch.nn.Sequential(*made))
        self.fc = torch.nn.Linear(channels, 3)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3, 4)))


def stem_of_volumes(convolution, width):
    first = convolution(width, (3, 7, 7), (1, 2, 2), name="conv1")
    layers = [*post_activation([first]), keras.layers.Activation("relu", name="activation1")]
    return [*layers, MaxPool((1, 3, 3), (1, 2, 2), name="pool")]


def test_a_3d_resnet_152_of_strides_along_two_axes_is_torchs():
    theirs = randomized(ResNet3D((3, 8, 36, 3), 4), "float32")
    ours = create_model(
        "resnet152_3d",
        num_classes=3,
        input_shape=(3, 36, 33, 2),
        width=4,
        stem=stem_of_volumes,
        stage_strides=(1, (1, 2, 2), (1, 2, 2), (1, 2, 2)),
    )
    assert load_weights(ours, theirs.state_dict()) == []
    x = np.random.default_rng(0).normal(size=(2, 3, 36, 33, 2)).astype("float32")
    assert_close({"output": ours(x).numpy()}, outputs_of_torch(theirs, x), "float32")


def name_in_video_resnets(name, names):
    """Returns the name of a weight in torchvision's networks for videos."""
    theirs = SCHEMES["torchvision"].key(name, names)
    theirs = theirs.replace("conv1.", "stem.0.") if theirs.startswith("conv1.") else theirs
    theirs = theirs.replace("bn1.", "stem.1.") if theirs.startswith("bn1.") else theirs
    theirs = re.sub(r"(layer.*)\.conv(\d)\.", r"\1.conv\2.0.", theirs)
    return re.sub(r"(layer.*)\.bn(\d)\.", r"\1.conv\2.1.", theirs)


def name_in_factored_resnets(name, names):
    """Returns the name where each 3-D convolution is one in space, then one in time."""
    theirs = name_in_video_resnets(name, names)
    layer = re.match(r"(layer.*)\.conv(\d)\.(\d)\.(.*)", theirs)
    if layer is None:
        return theirs
    block, number, kind, leaf = layer.groups()
    conv, last = (int(number) + 1) // 2, int(number) % 2 == 0
    inside = ("1" if last else "0.1") if kind == "1" else ("0.3" if last else "0.0")
    return f"{block}.conv{conv}.{inside}.{leaf}"


def factored(block, normalization):
    """Four convolutions, in space and in time by turns, as in torchvision's R(2+1)D."""
    strides = block.strides
    channels = block.filters // (1 if strides == 1 else 2)
    inner = channels * block.filters * 27 // (channels * 9 + 3 * block.filters)
    return post_activation(
        [
            Convolution(inner, (1, 3, 3), (1, strides, strides), name="conv1"),
            Convolution(block.filters, (3, 1, 1), (strides, 1, 1), name="conv2"),
            Convolution(inner, (1, 3, 3), name="conv3"),
            Convolution(block.filters, (3, 1, 1), name="conv4"),
        ],
        normalization.norm,
    )


def stem_of_videos(convolution, width):
    return stem_of_volumes(convolution, width)[:-1]


def test_torchvisions_factored_networks_for_videos(torchvision):
    resnets = torchvision.models.video.resnet
    parts = [resnets.Conv2Plus1D] * 4, [1, 1, 1, 1], resnets.BasicStem
    theirs = randomized(resnets.VideoResNet(resnets.BasicBlock, *parts, 3), "float32")
    ours = create_model(
        "resnet18_3d",
        num_classes=3,
        input_shape=(5, 32, 31, 3),
        blocks=(1, 1, 1, 1),
        stem=stem_of_videos,
        branch=factored,
    )
    naming = Scheme("video", name_in_factored_resnets, torch=True)
    assert load_weights(ours, theirs.state_dict(), naming) == []
    x = np.random.default_rng(0).normal(size=(2, 5, 32, 31, 3)).astype("float32")
    assert_close({"output": ours(x).numpy()}, outputs_of_torch(theirs, x), "float32")


def test_an_onnx_file_with_folded_normalizations_is_torchvisions(torchvision, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed (extra: weights)")
    resnet = torchvision.models.resnet
    theirs = randomized(resnet.ResNet(resnet.BasicBlock, [1, 2, 1, 1], num_classes=3), "float32")
    x = images("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's newer exporter needs a package of its own
        example = torch.tensor(np.moveaxis(x, -1, 1))
        torch.onnx.export(theirs, example, tmp_path / "model.onnx", dynamo=False)
    options = {"num_classes": 3, "input_shape": (32, 32, 3), "blocks": (1, 2, 1, 1)}
    ours = create_model("resnet18", norm=None, **options)
    assert load_weights(ours, tmp_path / "model.onnx") == []
    assert_close({"output": ours(x).numpy()}, outputs_of_torch(theirs, x), "float32")
    with pytest.raises(ValueError, match="norm1/gamma"):
        load_weights(create_model("resnet18", **options), tmp_path / "model.onnx")
