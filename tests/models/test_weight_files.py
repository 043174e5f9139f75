"""A broken or a hostile file of weights is one sentence, and the model stays as it was."""

import io
import json
import pickle
import re
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest

from reszoo.models import create_model, load_weights
from reszoo.models.untrusted_files import check_keras_file
from reszoo.models.weight_files import read_weights
from reszoo.models.weight_names import named_weights

safetensors = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed (extra: weights)"
)


@pytest.fixture(scope="module")
def model():
    return create_model("resnet18", num_classes=3, input_shape=(16, 16, 3), width=4, blocks=(1,))


@pytest.fixture(scope="module")
def arrays(model):
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(0.1, 1, v.shape).astype("float32")
        for name, v in named_weights(model).items()
    }


def refusal(model, source, **options):
    """The sentence with which a source is refused, after which the model is as it was."""
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"\.$") as error:
        load_weights(model, source, **options)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    text = str(error.value)
    assert len(text) < 900
    return text


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return buffer.getvalue()


def raw_safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "nothing"),
        (b"weights\n", "text"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b"\x00\x01\x02" * 9, "bytes of no known kind"),
        (zipped(a__txt="b"), "a zip archive"),
        (zipped(a__txt="b")[:30], "a zip archive that is cut short"),
        (zipped(w__npy="b"), "a NumPy archive"),
    ],
    ids=["empty", "text", "page", "LFS", "gzip", "npy", "noise", "zip", "cut zip", "npz"],
)
def test_what_is_no_file_of_weights_is_told_by_its_bytes(model, tmp_path, content, kind):
    for suffix in (".safetensors", ".pt", ".pth", ".bin", ".h5", ".keras", ".H5"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        assert f"weights{suffix}' is no " in (text := refusal(model, path))
        assert f": it holds {kind}. " in text


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (raw_safetensors({}), ".safetensors"),
        (pickle.dumps({}), ".pt"),
        (HDF5, ".h5"),
        (zipped(config__json="{}"), ".keras"),
    ],
    ids=["safetensors", "pickle", "HDF5", "Keras"],
)
def test_a_file_with_another_formats_name_is_told_its_own(model, tmp_path, content, suffix):
    for other in {".safetensors", ".pt", ".h5", ".keras"} - {suffix}:
        path = tmp_path / f"weights{other}"
        path.write_bytes(content)
        assert f"Rename it so that it ends in {suffix}" in refusal(model, path)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("none.safetensors", "There is no file"),
        ("folder.safetensors", "is a directory"),
        ("checkpoint.npz", "give its model.keras, not a checkpoint"),
        ("https://example.com/w.safetensors", "Download the file"),
        ("gs://bucket/w.h5", "Download the file"),
        ("hf://resnet18", "hf://OWNER/NAME"),
        (None, "must be a path"),
        (3, "must be a path"),
        (b"w.h5", "must be a path"),
        (["w.h5"], "or a dictionary of arrays"),
    ],
)
def test_a_source_that_is_none_is_refused(model, tmp_path, monkeypatch, source, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "checkpoint.npz").write_bytes(zipped(state__npy=""))
    assert reason in refusal(model, source)


def test_a_file_that_may_not_be_read_is_named(model, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(raw_safetensors({}))

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    assert "w.safetensors' cannot be read (Permission denied)" in refusal(model, path)


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "content",
    [
        raw_safetensors(b"{"),
        raw_safetensors({"a": F32}),
        raw_safetensors({"a": F32}, b"\0" * 3),
        raw_safetensors({"a": F32, "b": F32}, b"\0" * 4),
        raw_safetensors({"a": {**F32, "shape": [2**40, 2**40]}}, b"\0" * 4),
        raw_safetensors({"a": {**F32, "shape": [-1]}}, b"\0" * 4),
        raw_safetensors({"a": {**F32, "dtype": "F99"}}, b"\0" * 4),
        raw_safetensors({"a": {**F32, "dtype": "F8_E4M3", "shape": [4]}}, b"\0" * 4),
        raw_safetensors({"a": 3}),
    ],
    ids=["JSON", "no data", "cut", "overlap", "huge", "negative", "type", "8 bits", "number"],
)
def test_broken_safetensors_are_refused(model, tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert "w.safetensors' is no safetensors file" in refusal(model, path)


def test_a_header_of_safetensors_that_is_longer_than_the_file_is_refused(model, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert "is no safetensors file" in refusal(model, path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda a: a.astype("int64"), "is of int64, but must be of floating-point numbers"),
        (lambda a: a.astype("complex64"), "is of complex64"),
        (lambda a: a > 0, "is of bool"),
        (lambda a: np.full_like(a, np.nan), "are not finite: stem/conv1/kernel"),
        (lambda a: np.full_like(a, -np.inf), "are not finite: stem/conv1/kernel"),
        (lambda a: np.full(a.shape, 1e300), "too large for float32"),
        (lambda a: a[0], "Wrongly shaped (1): stem/conv1/kernel is (7, 3, 4)"),
        (lambda a: a[..., :0, :], "Wrongly shaped (1)"),
        (lambda a: np.float32(1), "Wrongly shaped (1): stem/conv1/kernel is ()"),
        (lambda a: np.zeros((0,), "float32"), "Wrongly shaped (1)"),
        (lambda a: a[:, :, :2, :3], "Wrongly shaped (1)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_weight_that_is_none_changes_nothing(model, arrays, tmp_path, change, reason):
    path = tmp_path / "w.safetensors"
    name = "stem/conv1/kernel"
    safetensors.save_file({**arrays, name: np.array(change(arrays[name]))}, path)
    assert reason in refusal(model, path)


def test_a_negative_variance_changes_nothing(model, arrays, tmp_path):
    name = next(name for name in arrays if name.endswith("moving_variance"))
    safetensors.save_file({**arrays, name: -arrays[name]}, tmp_path / "w.safetensors")
    text = refusal(model, tmp_path / "w.safetensors")
    assert f"{name} in" in text
    assert "negative" in text


def test_weights_of_half_precision_are_converted(model, arrays, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: references)")
    from safetensors.torch import save_file

    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        converted = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        save_file(converted, tmp_path / "w.safetensors")
        torch.save(converted, tmp_path / "w.pt")
        for path in (tmp_path / "w.safetensors", tmp_path / "w.pt"):
            assert load_weights(model, path) == []
            for name, variable in named_weights(model).items():
                np.testing.assert_array_equal(variable, converted[name].float().numpy())


class Code:
    """A pickle of it would run code."""

    ran = False

    def __reduce__(self):
        return setattr, (Code, "ran", True)


def test_torch_files_of_anything_else_are_refused_and_nothing_runs(model, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: references)")
    path = tmp_path / "w.pt"
    tensor = torch.ones(2)
    reasons = {
        "is no torch file of tensors": [{"a": Code()}, Code(), torch.nn.Linear(1, 1)],
        "no state dict, but Tensor": [tensor],
        "no state dict, but list": [[tensor]],
        "a dict whose 'epoch' is int": [{"w": tensor, "epoch": 3}],
        "a dict whose 'encoder' is dict": [{"encoder": {"w": tensor}}],
        "a dict whose 0 is Tensor": [{0: tensor}],
        "'w' in .* is no dense tensor": [
            {"w": tensor.to_sparse()},
            {"w": torch.empty(2, device="meta")},
            {"w": tensor.to(torch.float8_e4m3fn)},
        ],
        "two weights 'w'": [{"w": tensor, "module.w": tensor}],
        "is of complex64": [{"w": tensor * 1j}],
        "named like no ResNet": [{}, {"w": tensor}],
    }
    for reason, states in reasons.items():
        for state in states:
            torch.save(state, path)
            assert re.search(reason, refusal(model, path)), (reason, state)
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps(Code(), protocol))
        assert "is no torch file of tensors" in refusal(model, path)
    torch.save({"w": tensor}, path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "is no torch file" in refusal(model, path)
    assert not Code.ran


@pytest.mark.parametrize("keys", [("state_dict",), ("model",), ("model_state_dict",), ()])
def test_a_state_dict_is_found_where_trainings_keep_it(tmp_path, keys):
    torch = pytest.importorskip("torch", reason="torch is not installed (extra: references)")
    state = {"module._orig_mod.w": torch.nn.Parameter(torch.ones(2))}
    for key in keys:
        state = {key: state, "epoch": 3}
    torch.save(state, tmp_path / "w.pth")
    assert list(read_weights(tmp_path / "w.pth")) == ["w"]


def virtual(group):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(group.file.attrs["secret"]), "data", (3,))
    group.create_virtual_dataset("kernel:0", layout)


def linked(link):
    def write(group):
        group["kernel:0"] = link

    return write


def half_written(group):
    dataset = group.create_dataset("kernel:0", (100,), "f4", chunks=(10,))
    dataset[:10] = 1


HOSTILE = {
    "virtual": (virtual, "is stored in other files"),
    "soft": (linked(h5py.SoftLink("/conv")), "has a SoftLink at /conv/conv/kernel:0"),
    "out of the file": (linked(h5py.ExternalLink("/etc/passwd", "/")), "has a ExternalLink"),
    "never written": (lambda g: g.create_dataset("kernel:0", (3,), "f4"), "was never written"),
    "half written": (half_written, "has 1 of its 10 parts"),
    "text": (lambda g: g.create_dataset("kernel:0", data=[b"a"]), "is of |S1"),
    "compound": (lambda g: g.create_dataset("kernel:0", (1,), "i4,f4", data=[(1, 2)]), "is of [("),
    "group": (lambda g: g.create_group("kernel:0"), "cannot be read|can be read"),
    "missing": (lambda g: None, "can be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_hdf5_has_its_numbers_in_itself(model, tmp_path, name):
    write, reason = HOSTILE[name]
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = np.ones(3, "f4")
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["secret"] = str(tmp_path / "secret.h5")
        file.attrs["layer_names"] = ["conv"]
        group = file.create_group("conv/conv")
        file["conv"].attrs["weight_names"] = ["conv/kernel:0"]
        write(group)
    text = refusal(model, path)
    assert any(each in text for each in reason.split("|") if each) or reason in text
    assert str(path) in text


def test_external_storage_reads_no_file_of_this_machine(model, tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 4)
    for place in (tmp_path / "secret", "secret", "../secret"):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file.attrs["layer_names"] = ["conv"]
            group = file.create_group("conv")
            group.attrs["weight_names"] = ["kernel:0"]
            group.create_dataset("kernel:0", (1,), "f4", external=[(str(place), 0, 4)])
        assert "The data set /conv/kernel:0 in " in (text := refusal(model, tmp_path / "w.h5"))
        assert "is stored in other files" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.attrs.__setitem__("layer_names", "conv"),
        lambda file: file.attrs.__setitem__("layer_names", 3),
        lambda file: file.attrs.__setitem__("layer_names", ["none"]),
        lambda file: file["conv"].attrs.__setitem__("weight_names", ["none"]),
        lambda file: file["conv"].attrs.__setitem__("weight_names", [3]),
        lambda file: file["conv"].attrs.pop("weight_names"),
    ],
)
def test_hdf5_of_another_structure_is_refused(model, tmp_path, change):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["conv"]
        file["conv/kernel:0"] = np.ones(3)
        file["conv"].attrs["weight_names"] = ["kernel:0"]
        change(file)
    assert "w.h5' is no HDF5 file that can be read" in refusal(model, path)


def test_hdf5_that_is_cut_short_or_goes_in_circles_is_read_to_no_end(model, tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["a/b"] = np.ones(1000)
        file["a/c"] = file["a"]
    assert "names no layers" in refusal(model, path)
    path.write_bytes(path.read_bytes()[:-3000])
    assert "is no HDF5 file that can be read" in refusal(model, path)


def test_weights_of_no_known_names_are_named_with_their_file(model, tmp_path):
    path = tmp_path / "w.safetensors"
    for arrays in ({}, {"blocks.0.w": np.zeros(3, "float32")}):
        safetensors.save_file(arrays, path)
        assert refusal(model, path).startswith(f"{str(path)!r}: These weights are named like no")


def test_two_weights_of_one_name_are_refused(model, tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = ["a", "b"]
        for layer in "ab":
            file[f"{layer}/x/kernel:0"] = np.ones(3)
            file[layer].attrs["weight_names"] = ["x/kernel:0"]
    assert "two weights 'x/kernel'" in refusal(model, tmp_path / "w.h5")
    inner = [
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="same")], name=name)
        for name in "ab"
    ]
    outer = keras.Sequential([keras.Input((2,)), *inner], name="outer")
    assert "'outer' has two weights 'same/kernel'" in refusal(model, outer)


@pytest.fixture
def keras_file(tmp_path):
    small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    small.save(tmp_path / "w.keras")
    return tmp_path / "w.keras"


def rewritten(path, **members):
    """Writes an archive again with other members."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**content, **members}.items():
            archive.writestr(name, data)


def hostile_hdf5(secret):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.create_dataset("kernel", (1,), "f4", external=[(str(secret), 0, 4)])
    return buffer.getvalue()


def test_a_keras_file_has_its_numbers_in_itself(model, keras_file, tmp_path):
    rewritten(keras_file, **{"model.weights.h5": hostile_hdf5(tmp_path / "secret")})
    text = refusal(model, keras_file)
    assert "is stored in other files" in text
    assert "model.weights.h5" in text


@pytest.mark.parametrize("name", ["/etc/passwd", "../../outside", "a/../../b", "..\\outside"])
def test_a_keras_file_that_leads_out_of_itself_is_refused(model, keras_file, name):
    rewritten(keras_file, **{name: b"x"})
    assert "leads out of it" in refusal(model, keras_file)


def test_a_keras_file_with_a_flipped_bit_is_refused(model, keras_file):
    content = bytearray(keras_file.read_bytes())
    content[content.index(b"TREE") + 100] ^= 1
    keras_file.write_bytes(bytes(content))
    assert "its checksum is wrong" in refusal(model, keras_file)


@pytest.mark.parametrize(
    "config",
    [b"", b"{", b"[]", b"{}", b'{"class_name": "Own", "config": {}, "module": "os"}'],
)
def test_a_keras_file_without_a_model_is_refused(model, keras_file, config):
    rewritten(keras_file, **{"config.json": config})
    text = refusal(model, keras_file)
    assert "w.keras' cannot be loaded: " in text
    assert "\n" not in text


def test_a_keras_file_that_would_run_code_is_refused(model, tmp_path):
    path = tmp_path / "w.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)]).save(path)
    assert "w.keras' cannot be loaded" in refusal(model, path)


def test_an_archive_that_claims_too_much_is_refused_unread(keras_file, monkeypatch):
    monkeypatch.setattr("reszoo.models.untrusted_files._LARGE_BYTES", 1000)
    with zipfile.ZipFile(keras_file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/bomb", b"\0" * 10**6 * 2)
    with pytest.raises(ValueError, match=r"assets/bomb in .* claims 2,000,000 bytes of"):
        check_keras_file(keras_file)


def test_a_preset_that_is_none_is_one_sentence(model, tmp_path):
    pytest.importorskip("keras_hub", reason="keras-hub is not installed (extra: references)")
    (tmp_path / "preset").mkdir()
    text = refusal(model, f"keras_hub://{tmp_path / 'preset'}")
    assert "could not be had" in text
    assert "\n" not in text
