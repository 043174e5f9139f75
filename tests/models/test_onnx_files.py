"""ONNX files against their outputs in onnxruntime."""

import numpy as np
import pytest

from reszoo.models import ResNet18, ResNet50, ResNet50D, load_weights

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra: weights)")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


class Graph:
    """Writes a residual network as an exporter does: convolutions with biases, and odd names."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.nodes, self.constants, self.channels = [], [], 3

    def add(self, kind, *inputs, **attributes):
        output = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, *shape, low=-0.5, high=0.5):
        array = self.rng.uniform(low, high, shape).astype("float32")
        self.constants.append(
            onnx.numpy_helper.from_array(array, f"onnx::Conv_{len(self.constants)}")
        )
        return self.constants[-1].name

    def conv(self, x, channels, filters, size, stride=1, separate=False):
        pads, strides = [size // 2] * 4, [stride] * 2
        kernel, bias = self.constant(filters, channels, size, size), self.constant(filters)
        attributes = {"pads": pads, "strides": strides}
        if not separate:
            return self.add("Conv", x, kernel, bias, **attributes)
        self.constants[-1].dims[:] = [1, filters, 1, 1]
        return self.add("Add", self.add("Conv", x, kernel, **attributes), bias)

    def norm(self, x, channels):
        values = [self.constant(channels, low=0.5, high=1.0) for _ in range(4)]
        return self.add("BatchNormalization", x, *values, epsilon=1e-3)

    def head(self, x, channels, transposed):
        x = self.add("Flatten", self.add("GlobalAveragePool", x))
        if transposed:
            kernel = self.constant(5, channels)
            return self.add("Gemm", x, kernel, self.constant(5), transB=1)
        return self.add("Add", self.add("MatMul", x, self.constant(channels, 5)), self.constant(5))

    def save(self, path, output):
        of = onnx.helper.make_tensor_value_info
        inputs, outputs = of("x", 1, (2, 3, 32, 32)), of(output, 1, (2, 5))
        graph = onnx.helper.make_graph(self.nodes, "g", [inputs], [outputs], self.constants)
        opset = onnx.helper.make_opsetid("", 17)
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


def write(path, bottleneck=False, separate=False, norm=False, transposed=True):
    """Writes a network of two stages, of one and two blocks, with random weights."""
    graph, out = Graph(), 16 if bottleneck else 4

    def conv(x, channels, filters, size, stride=1):
        if not norm:
            return graph.conv(x, channels, filters, size, stride, separate)
        kernel = graph.constant(filters, channels, size, size)
        x = graph.add("Conv", x, kernel, pads=[size // 2] * 4, strides=[stride] * 2)
        return graph.norm(x, filters)

    x = graph.add("Relu", conv("x", 3, 4, 7, 2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 4
    for stage, count in enumerate((1, 2)):
        for block in range(count):
            filters, stride = 4 * 2**stage, 2 if stage and not block else 1
            out = 4 * filters if bottleneck else filters
            sizes = (1, 3, 1) if bottleneck else (3, 3)
            widths = (channels, filters, filters, out) if bottleneck else (channels, filters, out)
            y = x
            for i, size in enumerate(sizes):
                step = stride if i == (1 if bottleneck else 0) else 1
                y = conv(y, widths[i], widths[i + 1], size, step)
                y = graph.add("Relu", y) if i + 1 < len(sizes) else y
            shortcut = x if channels == out else conv(x, channels, out, 1, stride)
            # Exporters put either path first.
            pair = (y, shortcut) if stage else (shortcut, y)
            x, channels = graph.add("Relu", graph.add("Add", *pair)), out
    graph.save(path, graph.head(x, channels, transposed))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bottleneck": True},
        {"separate": True, "transposed": False},
        {"norm": True, "bottleneck": True},
    ],
    ids=str,
)
def test_outputs_are_those_of_onnxruntime(options, tmp_path):
    path = tmp_path / "model.onnx"
    write(path, **options)
    make = ResNet50 if options.get("bottleneck") else ResNet18
    norm = "batch" if options.get("norm") else None
    model = make(5, (32, 32, 3), width=4, blocks=(1, 2), norm=norm)
    assert load_weights(model, path) == []
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": np.moveaxis(x, -1, 1)})
    np.testing.assert_allclose(model(x), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_network_of_other_blocks_lists_what_does_not_fit(tmp_path):
    write(tmp_path / "model.onnx")
    options = {"num_classes": 5, "input_shape": (32, 32, 3), "width": 4}
    with pytest.raises(ValueError, match=r"stage1_block1/branch/norm1/gamma(.|\n)*conv1\.bias"):
        load_weights(ResNet18(blocks=(1, 2), **options), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"Missing \(\d+\): stage2_block1"):
        load_weights(ResNet18(blocks=(2, 2), norm=None, **options), tmp_path / "model.onnx")
    for make in (ResNet50, ResNet50D):
        with pytest.raises(ValueError, match="nothing was changed"):
            load_weights(make(blocks=(1, 2), norm=None, **options), tmp_path / "model.onnx")


def refusal(path):
    with pytest.raises(ValueError, match=r"\.$") as error:
        load_weights(ResNet18(5, (32, 32, 3), width=4, blocks=(1, 2), norm=None), path)
    return str(error.value)


def test_what_is_no_chain_of_residual_blocks_is_refused(tmp_path):
    path, graph = tmp_path / "model.onnx", Graph()
    x = graph.conv("x", 3, 4, 3)
    graph.save(path, graph.add("Mul", x, x))
    assert "has an operation Mul" in refusal(path)
    graph = Graph()
    graph.save(path, graph.add("Add", graph.conv("x", 3, 3, 3), graph.conv("x", 3, 3, 3)))
    assert "has an operation Add" in refusal(path)


def test_files_that_are_damaged_or_read_others_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is no ONNX file that can be read" in refusal(path)
    path.write_bytes(whole)
    path.rename(tmp_path / "model.safetensors")
    assert "Rename it so that it ends in .onnx" in refusal(tmp_path / "model.safetensors")
    model = onnx.load_from_string(whole)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    assert "is in another file" in refusal(path)
    model = onnx.load_from_string(whole)
    model.graph.initializer[0].dims[0] = 2**40
    path.write_bytes(model.SerializeToString())
    assert "cannot be read" in refusal(path)
