"""The log is what was written, whatever happened to the run."""

import gc
import json
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from reszoo.gradients import load, load_layers, load_loss, load_variables, records
from reszoo.gradients.log import FINDINGS_TAG, PLUGIN_NAME, TAG, VARIABLES_TAG, LogWriter
from reszoo.gradients.log.event_files import framed
from tests.raw_log import header, write_raw

BLOCKS = [{"name": "stage1_block1"}, {"name": "stage1_block2"}]
STATISTICS = ["skip_share", "update_norm", "weight_norm"]
PACKED = {"prefix": "", "skip": 0, "branch": 0, "activation": None}


def write(log_dir, steps, first_step=0, offset=0.0):
    writer = LogWriter(str(log_dir), BLOCKS, STATISTICS, first_step)
    for step in steps:
        writer.write(step, np.arange(6).reshape(2, 3) + 10 * step + offset, {"update_norm": step})
    return writer


def test_a_table_has_one_number_a_row(tmp_path):
    write(tmp_path, [0, 5]).close()
    table = load(str(tmp_path))
    assert list(table.columns) == ["step", "block", "statistic", "value"]
    assert len(table) == 2 * 2 * 3
    assert list(table.block.cat.categories) == ["stage1_block1", "stage1_block2"]
    row = table[(table.step == 5) & (table.block == "stage1_block2")]
    assert list(row.statistic) == STATISTICS
    assert list(row.value) == [53, 54, 55]


def test_a_record_is_on_disk_when_it_is_written(tmp_path):
    writer = write(tmp_path, [0, 5])
    assert [record.step for record in records(str(tmp_path))] == [0, 5]
    writer.close()


def test_the_steps_of_a_second_training_follow(tmp_path):
    write(tmp_path, [0, 5]).close()
    write(tmp_path, [10, 15], first_step=6).close()
    assert [record.step for record in records(str(tmp_path))] == [0, 5, 10, 15]


def test_steps_recorded_again_after_a_restart_are_given_once(tmp_path):
    write(tmp_path, [0, 5, 10, 15]).close()
    write(tmp_path, [10, 15, 20], first_step=10, offset=0.5).close()
    read = list(records(str(tmp_path)))
    assert [record.step for record in read] == [0, 5, 10, 15, 20]
    assert [record.values[0, 0] for record in read] == [0, 50, 100.5, 150.5, 200.5]


def test_a_log_cut_short_gives_what_is_intact_and_says_so(tmp_path):
    write(tmp_path, [0, 5, 10]).close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="damaged after 4 events"):
        steps = [record.step for record in records(str(tmp_path))]
    assert steps == [0, 5]
    with pytest.warns(UserWarning, match="damaged after 4 events"):
        load_loss(str(tmp_path))


def test_a_workdir_leads_to_its_gradients(tmp_path):
    write(tmp_path / "gradients", [0]).close()
    assert len(load(str(tmp_path))) == 6


def test_a_cut_file_of_somebody_else_in_a_workdir_is_none_of_the_log(tmp_path):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"cut")
    for message in ("no gradient log in .*that can be read", "tfevents.1 is damaged", "Give the"):
        with pytest.raises(ValueError, match=message):
            load(str(tmp_path))
    (tmp_path / "events.out.tfevents.2").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"1 more cannot be read either\. Give"):
        load(str(tmp_path))
    write(tmp_path / "gradients", [0]).close()  # warnings are errors
    assert len(load(str(tmp_path))) == 6


def test_a_directory_without_a_log_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no gradient log in .* Give the log_dir"):
        load(str(tmp_path))


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot be written"):
        LogWriter(str(tmp_path / "file" / "log"), BLOCKS, STATISTICS, 0)


def test_tensorboard_reads_tensor_and_scalars(tmp_path):
    write(tmp_path, [0, 5, 10]).close()
    accumulator = event_accumulator.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.PluginTagToContent(PLUGIN_NAME).keys() == {TAG}
    header = json.loads(accumulator.PluginTagToContent(PLUGIN_NAME)[TAG])
    assert header["statistics"] == STATISTICS
    assert [event.step for event in accumulator.Tensors(TAG)] == [0, 5, 10]
    assert set(accumulator.PluginTagToContent("scalars")) == {f"{TAG}/update_norm"}


WRITE_FOR_EVER = """
import itertools, sys
import numpy as np
from reszoo.gradients.log import VARIABLES_TAG, LogWriter
blocks, statistics = [{"name": f"block{i}"} for i in range(8)], [f"statistic{i}" for i in range(20)]
writer = LogWriter(sys.argv[1], blocks, statistics, 0)
for step in itertools.count():
    writer.write(step, np.full((8, 20), step), {})
    print(step, flush=True)
"""


def test_what_was_written_before_a_kill_is_read(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        written = [int(next(process.stdout)) for _ in range(50)]
        process.kill()
        written += [int(line) for line in process.stdout if line.endswith("\n")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the last record may be cut short
        steps = [record.step for record in records(str(tmp_path))]
    # A step may have been written and not yet reported.
    assert steps[: len(written)] == written
    assert len(steps) <= len(written) + 1


def test_a_bit_that_flipped_ends_the_file_there(tmp_path):
    write(tmp_path, [0, 5, 10]).close()
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="is damaged after"):
        steps = [record.step for record in records(str(tmp_path))]
    assert steps in ([0], [0, 5])


def test_many_rows_are_read_in_bounded_memory(tmp_path):
    writer = write(tmp_path, [])
    for step in range(2000):
        writer.write(step, np.zeros((2, 3)), {})
    writer.close()
    tracemalloc.start()
    count = sum(1 for _ in records(str(tmp_path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2000
    assert peak < 4 * 2**20


def test_tensorboard_follows_one_of_two_files_that_grow_in_a_directory(tmp_path):
    # So a run has a directory for the log and others for its curves: see docs/training.md.
    accumulator = event_accumulator.EventAccumulator(str(tmp_path))
    curves, log = write(tmp_path, []), write(tmp_path, [])
    for step in (0, 10):
        for name, writer in (("curve", curves), ("loss", log)):
            writer.write(step, np.zeros((len(BLOCKS), len(STATISTICS))), {name: 1.0})
            accumulator.Reload()
    shown = {name: accumulator.Tensors(f"{TAG}/{name}") for name in ("curve", "loss")}
    assert {name: [event.step for event in of_tag] for name, of_tag in shown.items()} == {
        "curve": [0],
        "loss": [0, 10],
    }


def test_findings_stand_beside_the_records(tmp_path):
    writer = write(tmp_path, [0, 5])
    writer.write_findings(5, ['{"alarm": "vanishing"}', '{"alarm": "exploding"}'])
    writer.close()
    assert [record.step for record in records(str(tmp_path))] == [0, 5]
    accumulator = event_accumulator.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert accumulator.PluginTagToContent(PLUGIN_NAME).keys() == {TAG, FINDINGS_TAG}
    (event,) = accumulator.Tensors(FINDINGS_TAG)
    assert event.step == 5
    assert list(event.tensor_proto.string_val) == [
        b'{"alarm": "vanishing"}',
        b'{"alarm": "exploding"}',
    ]


BROKEN_HEADERS = {
    b"{": "in column",
    b"\xff": "not UTF-8",
    b"[]": "must be an object",
    header(version=7): "format 7, and this version of reszoo reads format 1",
    header(version="1"): "'version' must be a whole number",
    header(version=float("nan")): "'version' must be a whole number",
    header(tested_alarms=[{}]): "'tested_alarms'[0] has no 'alarm'",
    header(blocks="ab"): "'blocks' must be a list",
    header(blocks=[3]): "'blocks'[0] must be an object",
    header(blocks=[{"name": None}]): "'blocks'[0]['name'] must be a string",
    header(blocks=[{"name": "a", "trainable_weights": float("nan")}]): "'trainable_weights'",
    header(blocks=[{"name": "\ud800"}]): "is not UTF-8",
    header(blocks=[{"name": "a"}, {"name": "a"}]): "two blocks 'a'",
    header(blocks=[]): "no block",
    header(blocks=[{"name": "a", "layers": 3}]): "'blocks'[0]['layers'] must be",
    header(blocks=[{"name": "a", "layers": PACKED}]): "a block refers to path 0 of 0",
    header(blocks=[{"name": "a", "layers": {**PACKED, "branch": -1}}], paths=[[]]): "path -1 of 1",
    header(paths=[[["conv", "Conv2D", [8], 3]]]): "'paths'[0][0] must have 5 items",
    header(paths=[[["conv", "Conv2D", 8, 3, None]]]): "'paths'[0][0][2] must be a list or null",
    header(statistics=[]): "no statistic",
    header(statistics="s"): "'statistics' must be a list",
    header(statistics=["s", "s"]): "two statistics 's'",
}


@pytest.mark.parametrize("broken", BROKEN_HEADERS)
def test_a_log_with_a_broken_header_is_one_sentence(tmp_path, broken):
    write_raw(tmp_path / "events.out.tfevents.1", broken)
    with pytest.raises(ValueError, match=r"^.*events\.out\.tfevents\.1: The log") as error:
        load(str(tmp_path))
    assert BROKEN_HEADERS[broken] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_file_beside_good_ones_is_left_out_and_named(tmp_path):
    write_raw(tmp_path / "events.out.tfevents.1", b"{")
    write_raw(tmp_path / "events.out.tfevents.2", header(), step=1)
    (tmp_path / "events.out.tfevents.3").mkdir()
    (tmp_path / "events.out.tfevents.4").touch()
    with pytest.warns(UserWarning, match="is left out, in part or whole") as warned:
        assert [record.step for record in records(str(tmp_path))] == [1]
    texts = sorted(str(warning.message) for warning in warned)
    assert len(texts) == 2
    assert "tfevents.1: The log's header" in texts[0]
    assert "tfevents.3 cannot be read" in texts[1]


def test_a_log_of_one_file_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "events.out.tfevents.3").mkdir()
    with pytest.raises(ValueError, match=r"tfevents\.3 cannot be read"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 1), np.float32),
        np.zeros((1, 0), np.float32),
        np.float32(0),
        np.array([["text"]], object),
        np.array([[1j]], np.complex64),
        np.array([[True]]),
    ],
    ids=["rows", "no column", "scalar", "text", "complex", "bool"],
)
def test_records_that_do_not_fit_their_header_are_left_out_and_counted(tmp_path, values):
    path = write_raw(tmp_path / "events.out.tfevents.1", header(), b"", values=values)
    write_raw(tmp_path / "events.out.tfevents.2", header(), step=5)
    with pytest.warns(UserWarning, match=f"^{path}: 2 of the records .*, the first of step 0"):
        assert [record.step for record in records(str(tmp_path))] == [5]


def test_a_record_whose_bytes_are_cut_is_left_out_and_counted(tmp_path):
    tensor = tf.make_tensor_proto(np.zeros((1, 1), np.float32))
    tensor.tensor_content = b"\0\0"
    path = write_raw(tmp_path / "events.out.tfevents.1", header(), values=tensor)
    with pytest.warns(UserWarning, match=f"^{path}: 1 of the records"):
        assert not list(records(str(tmp_path)))


def test_numbers_of_another_width_are_read(tmp_path):
    for number, dtype in enumerate(("float64", "float16", "int32")):
        values = np.array([[number]], dtype)
        write_raw(tmp_path / f"events.out.tfevents.{number}", header(), values=values, step=number)
    assert list(load(str(tmp_path)).value) == [0, 1, 2]


def test_the_file_is_one_that_tensorflow_writes(tmp_path):
    write(tmp_path, [0, 5]).close()
    (path,) = tmp_path.iterdir()
    copy = str(tmp_path / "copy")
    with tf.io.TFRecordWriter(copy) as file:
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                # TensorFlow makes the same message of the same numbers.
                value.tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(value.tensor)))
            file.write(event.SerializeToString())
    assert path.read_bytes() == Path(copy).read_bytes()


@pytest.mark.parametrize("end", [1, 11, 12, 13, -5, -1])
def test_a_cut_anywhere_in_a_record_is_told(tmp_path, end):
    write(tmp_path, [0]).close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + framed(b"record")[:end])
    with pytest.warns(UserWarning, match="damaged after 3 events"):
        assert sorted(set(load(str(tmp_path)).step)) == [0]


def test_a_writer_that_is_left_open_closes_its_file(tmp_path):
    write(tmp_path, [0])
    gc.collect()  # would warn of a file that was not closed
    assert len(load(str(tmp_path))) == 6


def test_what_is_no_event_ends_the_file_there(tmp_path):
    path = write_raw(tmp_path / "events.out.tfevents.1", header())
    with tf.io.TFRecordWriter(str(tmp_path / "noise")) as file:
        file.write(b"\xff" * 20)
    with path.open("ab") as file:
        file.write((tmp_path / "noise").read_bytes())
    with pytest.warns(UserWarning, match="is damaged after 3 events"):
        assert [record.step for record in records(str(tmp_path))] == [0]


@pytest.mark.parametrize(
    "name", ["run[1]", "run*", "a?b", "{a}", "$x$", "a b", "ü\u4f60", "-x", "%s"]
)
def test_the_directory_of_a_log_may_have_any_name(tmp_path, name):
    write(tmp_path / name, [0, 5]).close()
    assert [record.step for record in records(str(tmp_path / name))] == [0, 5]


def test_each_header_of_a_directory_has_a_tag_of_its_own(tmp_path):
    for step, statistics in enumerate([STATISTICS, STATISTICS[:2], STATISTICS, STATISTICS[:2]]):
        writer = LogWriter(str(tmp_path), BLOCKS, statistics, step)
        writer.write(step, np.full((2, len(statistics)), step), {})
        writer.close()
    accumulator = event_accumulator.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    contents = accumulator.PluginTagToContent(PLUGIN_NAME)
    assert [json.loads(contents[tag])["statistics"] for tag in sorted(contents)] == [
        STATISTICS,
        STATISTICS[:2],
    ]
    assert TAG in contents
    assert [(r.step, list(r.statistics)) for r in records(str(tmp_path))] == [
        (0, STATISTICS),
        (1, STATISTICS[:2]),
        (2, STATISTICS),
        (3, STATISTICS[:2]),
    ]


def test_a_table_whose_rows_change_is_read_under_its_own_names(tmp_path):
    writer = write(tmp_path, [])
    for step, rows in enumerate([["v"], ["v", "w"], ["w", "x"]]):
        header = {"rows": rows, "columns": ["weight_norm"]}
        writer.write_table(step, VARIABLES_TAG, np.full((len(rows), 1), step), header)
    writer.close()
    table = load_variables(str(tmp_path))
    assert list(zip(table.step, table.variable, table.value, strict=True)) == [
        (0, "v", 0),
        (1, "v", 1),
        (1, "w", 1),
        (2, "w", 2),
        (2, "x", 2),
    ]


def layer(name, kind="Conv2D", shape=(8, 8, 4), parameters=148, activation=None):
    shape = None if shape is None else list(shape)
    values = (name, kind, shape, parameters, activation)
    return dict(zip(("name", "kind", "shape", "parameters", "activation"), values, strict=True))


def block(name, *branch, skip=(), activation="relu"):
    layers = {"skip": list(skip), "branch": list(branch), "activation": activation}
    return {"name": name, "layers": layers}


def write_blocks(log_dir, blocks, step=0):
    writer = LogWriter(str(log_dir), blocks, ["skip_share"], step)
    writer.write(step, np.full((len(blocks), 1), step), {})
    writer.close()


def tags_in(log_dir):
    accumulator = event_accumulator.EventAccumulator(str(log_dir))
    accumulator.Reload()
    return accumulator.PluginTagToContent(PLUGIN_NAME)


def test_layers_are_read_as_they_were_written(tmp_path):
    blocks = [
        block(
            "a", layer("a_1"), layer(None, "Relu, Mul", None, None), layer("a_2", activation="x")
        ),
        block("b", skip=[layer("projection", shape=[None, None, 4])], activation=None),
        {"name": "not known", "layers": None},
        {"name": "of an earlier version"},
    ]
    write_blocks(tmp_path, blocks)
    (record,) = records(str(tmp_path))
    assert list(record.blocks) == blocks
    assert [tuple(row) for row in load_layers(str(tmp_path)).itertuples(index=False)] == [
        ("a", "branch", "a_1", "Conv2D", (8, 8, 4), 148, ""),
        ("a", "branch", "", "Relu, Mul", None, pd.NA, ""),
        ("a", "branch", "a_2", "Conv2D", (8, 8, 4), 148, "x"),
        ("b", "skip", "projection", "Conv2D", (None, None, 4), 148, ""),
    ]


def test_a_log_without_layers_has_none(tmp_path):
    write(tmp_path, [0]).close()
    table = load_layers(str(tmp_path))
    assert table.empty
    assert list(table.columns)[:3] == ["block", "path", "layer"]


def test_a_path_that_many_blocks_have_stands_once_in_the_log(tmp_path):
    kinds = ["Conv2D", "BatchNormalization", "ReLU", "Conv2D", "BatchNormalization"]
    layers = [[layer(f"block{n}_part{i}", k) for i, k in enumerate(kinds)] for n in range(100)]
    write_blocks(tmp_path, [block(f"block{n}", *of_block) for n, of_block in enumerate(layers)])
    (content,) = tags_in(tmp_path).values()
    assert len(content) < 12_000
    assert len(json.loads(content)["paths"]) == 2
    assert list(load_layers(str(tmp_path)).layer) == [each["name"] for of in layers for each in of]


@pytest.mark.parametrize(
    ("before", "after", "is_one_log"),
    [
        (layer("conv"), layer("conv"), True),
        # Another number, by Keras, of a layer without a name.
        (layer("dense_3"), layer("dense_12"), True),
        (layer("dense"), layer("dense_1"), True),
        (layer("conv"), layer("conv", activation="relu"), False),
        (layer("conv"), layer("convolution"), False),
        (layer("conv"), layer("conv", shape=[4, 4, 4]), False),
    ],
)
def test_a_training_that_goes_on_has_its_own_header_if_its_layers_changed(
    tmp_path, before, after, is_one_log
):
    write_blocks(tmp_path, [block("a", before)])
    write_blocks(tmp_path, [block("a", after)], step=1)
    assert len(tags_in(tmp_path)) == (1 if is_one_log else 2)
    assert [r.blocks[0]["layers"]["branch"] for r in records(str(tmp_path))] == [[before], [after]]
    assert list(load_layers(str(tmp_path)).layer) == [after["name"]]


def test_a_training_that_an_earlier_version_began_has_layers_from_where_it_goes_on(tmp_path):
    write_blocks(tmp_path, [{"name": "a"}])
    write_blocks(tmp_path, [block("a", layer("conv"))], step=1)
    assert ["layers" in record.blocks[0] for record in records(str(tmp_path))] == [False, True]
    assert list(load(str(tmp_path)).value) == [0, 1]
    assert list(load_layers(str(tmp_path)).layer) == ["conv"]
