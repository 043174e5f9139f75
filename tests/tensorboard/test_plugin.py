"""Answers of the server, over the same data providers that TensorBoard uses."""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from reszoo.gradients.log import HISTOGRAMS_TAG, PLUGIN_NAME, TAG, LogWriter, load, load_histograms
from reszoo.gradients.log.format import TABLES_PLUGIN
from reszoo.gradients.log.packed_layers import unpack_layers
from reszoo.tensorboard import listings
from reszoo.tensorboard import plugin as plugins
from tests.raw_log import header, write_raw
from tests.unpacking import unpack

BLOCKS = [{"name": "stage1_block1", "shortcut": "identity"}, {"name": "<b>block</b>"}]
STATISTICS = ["skip_share", "skip_gradient_norm", "of_tomorrow"]
SCRIPT = "<script>alert(1)</script>"


def values_of(step):
    return np.arange(6, dtype=np.float32).reshape(2, 3) + 10 * step


def write_run(log_dir, steps, **settings):
    blocks = settings.get("blocks", BLOCKS)
    writer = LogWriter(str(log_dir), blocks, STATISTICS, first_step=steps[0])
    for step in steps:
        writer.write(step, values_of(step)[: len(blocks)], {"update_norm": step})
    writer.close()


def write_alarms(log_dir, alarms):
    writer = LogWriter(str(log_dir), BLOCKS, STATISTICS, first_step=1000)
    for step in sorted({alarm["step"] for alarm in alarms}):
        writer.write_findings(step, [json.dumps(each) for each in alarms if each["step"] == step])
    writer.close()


def serve(log_dir, samples=plugins.DEFAULT_SAMPLES):
    """Returns clients of the plugin's routes, a reload, and the plugin."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer(
        size_guidance={"tensors": 10},
        tensor_size_guidance={PLUGIN_NAME: samples, TABLES_PLUGIN: samples},
    )

    def reload():
        multiplexer.AddRunsFromDirectory(str(log_dir))
        multiplexer.Reload()

    reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(log_dir))
    plugin = plugins.GradientFlowLoader().load(
        base_plugin.TBContext(data_provider=provider, logdir=str(log_dir))
    )
    clients = {route: Client(app) for route, app in plugin.get_plugin_apps().items()}

    def get(route, method="GET", **query):
        return clients[route].open(method=method, query_string=query)

    return SimpleNamespace(get=get, reload=reload, plugin=plugin)


@pytest.fixture(autouse=True)
def listed_anew(monkeypatch):
    """Has every request list what there is."""
    monkeypatch.setattr(listings, "SECONDS_KEPT", 0)


@pytest.fixture
def server(tmp_path):
    write_run(tmp_path / "plain", range(0, 50, 5))
    write_run(tmp_path / SCRIPT, [0])
    (tmp_path / "empty").mkdir()
    with tf.summary.create_file_writer(str(tmp_path / "other")).as_default():
        tf.summary.scalar("loss", 1.0, step=0)
    return serve(tmp_path)


def test_it_is_active_when_a_log_holds_recordings(server, tmp_path):
    assert server.plugin.is_active()
    with tf.summary.create_file_writer(str(tmp_path / "without" / "run")).as_default():
        tf.summary.scalar("loss", 1.0, step=0)
    assert not serve(tmp_path / "without").plugin.is_active()
    assert not plugins.GradientFlowPlugin(base_plugin.TBContext()).is_active()


def test_the_tab_has_a_name_and_a_page(server):
    metadata = server.plugin.frontend_metadata()
    assert metadata.tab_name == "Gradient Flow"
    page = server.get(metadata.es_module_path)
    assert page.status_code == 200
    assert page.mimetype == "text/javascript"
    assert b"render" in page.data


def test_the_loader_asks_for_samples_unless_the_user_did():
    flags = SimpleNamespace(samples_per_plugin={})
    plugins.GradientFlowLoader().fix_flags(flags)
    assert flags.samples_per_plugin == {
        PLUGIN_NAME: plugins.DEFAULT_SAMPLES,
        TABLES_PLUGIN: plugins.DEFAULT_TABLE_SAMPLES,
    }
    chosen = {PLUGIN_NAME: 3, TABLES_PLUGIN: 4}
    flags = SimpleNamespace(samples_per_plugin=dict(chosen))
    plugins.GradientFlowLoader().fix_flags(flags)
    assert flags.samples_per_plugin == chosen


def test_runs_are_described(server):
    script, plain = server.get("/runs").json["runs"]
    assert (script["run"], plain["run"]) == (SCRIPT, "plain")
    assert plain["blocks"] == BLOCKS
    assert plain["last_step"] == 45
    assert [entry["name"] for entry in plain["statistics"]] == STATISTICS
    assert plain["statistics"][0]["unit"] == "none, 0 to 1"
    assert plain["tested_alarms"] is None


def test_a_run_says_what_it_was_tested_for(tmp_path):
    tested = [{"alarm": "vanishing", "fraction": 0.1}]
    writer = LogWriter(str(tmp_path / "run"), BLOCKS, STATISTICS, 0, tested)
    writer.write(0, values_of(0), {})
    writer.close()
    (run,) = serve(tmp_path).get("/runs").json["runs"]
    assert run["tested_alarms"] == tested


def test_layers_of_a_run_are_those_that_were_written_last(tmp_path):
    conv = {"kind": "Conv2D", "shape": [8, 8, 4], "parameters": 36, "activation": None}
    for step, name in enumerate(["a_conv", "a_pool", "a_conv"]):
        layers = {"skip": [], "branch": [{"name": name, **conv}], "activation": "relu"}
        blocks = [{"name": "a", "layers": layers}, {"name": "b", "layers": None}]
        write_run(tmp_path / "run", [step], blocks=blocks)
        (run,) = serve(tmp_path).get("/runs").json["runs"]
        assert unpack_layers(run["blocks"], run["paths"]) == blocks


def test_names_are_data_never_markup(server):
    for answer in (server.get("/runs"), server.get("/data", run=SCRIPT)):
        assert answer.mimetype in ("application/json", "application/octet-stream")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    refused = server.get("/data", run=SCRIPT + "?")
    assert refused.status_code == 404
    assert refused.mimetype == "text/plain"
    assert SCRIPT in refused.text


def test_data_are_what_was_written(server):
    header, steps, _, values = unpack(server.get("/data", run="plain").data)
    assert list(steps) == list(range(0, 50, 5))
    assert header["recorded_steps"] == 10
    for index, step in enumerate(steps):
        np.testing.assert_array_equal(values[:, :, index].T, values_of(int(step)))


def test_data_of_one_block_and_statistic_in_a_range(server):
    answer = server.get(
        "/data",
        run="plain",
        block="<b>block</b>",
        statistic="of_tomorrow",
        first_step=10,
        last_step=20,
    )
    header, steps, _, values = unpack(answer.data)
    assert (header["blocks"], header["statistics"]) == (["<b>block</b>"], ["of_tomorrow"])
    np.testing.assert_array_equal(values[0, 0], 10 * steps + 5)
    assert list(steps) == [10, 15, 20]


def test_the_loss_is_answered_where_it_was_recorded(server, tmp_path):
    assert server.get("/loss", run="plain").json == {"steps": [], "values": []}
    writer = LogWriter(str(tmp_path / "lossy"), BLOCKS, STATISTICS, first_step=0)
    for step, loss in ((0, 2.5), (10, float("nan")), (20, 0.5)):
        writer.write(step, values_of(step), {"loss": loss})
    writer.close()
    server.reload()
    answer = server.get("/loss", run="lossy").json
    assert answer == {"steps": [0, 10, 20], "values": [2.5, None, 0.5]}
    assert server.get("/loss", run="none").status_code == 404


def test_the_beginnings_of_epochs_are_answered_where_they_were_recorded(server, tmp_path):
    assert server.get("/epochs", run="plain").json == {"steps": [], "epochs": []}
    writer = LogWriter(str(tmp_path / "run"), BLOCKS, STATISTICS, first_step=0)
    for epoch, step in enumerate((0, 15)):
        writer.write_scalars(step, {"epoch": epoch})
        writer.write(step, values_of(step), {})
    writer.close()
    answer = serve(tmp_path).get("/epochs", run="run").json
    assert answer == {"steps": [0, 15], "epochs": [0, 1]}


def write_histograms(log_dir, steps, blocks):
    writer = LogWriter(str(log_dir), [{"name": name} for name in blocks], ["x"], steps[0])
    for step in steps:
        writer.write(step, np.zeros((len(blocks), 1)), {})
        header = {"rows": blocks, "columns": ["skip 0.0", "skip 0.5", "branch 0.0"]}
        values = np.arange(3 * len(blocks)).reshape(-1, 3) + 100 * step
        writer.write_table(step, HISTOGRAMS_TAG, values, header)
    writer.close()


def test_histograms_are_those_of_the_nearest_recorded_step(server, tmp_path):
    write_histograms(tmp_path / "run", [0, 10, 20], ["a", "b"])
    server.reload()
    for asked, step in ((0, 0), (6, 10), (10, 10), (1000, 20)):
        answer = server.get("/histograms", run="run", block="b", step=asked)
        header, steps, _, values = unpack(answer.data)
        assert (header["blocks"], list(steps)) == (["b"], [step])
        assert header["statistics"] == ["skip 0.0", "skip 0.5", "branch 0.0"]
        np.testing.assert_array_equal(values[:, 0, 0], np.arange(3, 6) + 100 * step)
    _, steps, _, values = unpack(server.get("/histograms", run="run").data)
    assert (list(steps), values.shape) == ([20], (3, 2, 1))
    header, steps, _, _ = unpack(server.get("/histograms", run="plain", block="any").data)
    assert (header["blocks"], list(steps)) == ([], [])


def test_histograms_stand_under_the_blocks_that_they_were_recorded_of(server, tmp_path):
    write_histograms(tmp_path / "run", [0, 1], ["a", "b"])
    write_histograms(tmp_path / "run", [2, 3], ["b", "c"])
    server.reload()
    for step, block, first in ((0, "a", 0), (0, "b", 3), (3, "b", 300), (3, "c", 303)):
        answer = server.get("/histograms", run="run", block=block, step=step)
        assert unpack(answer.data)[3][:, 0, 0].tolist() == [first, first + 1, first + 2]
    answer = server.get("/histograms", run="run", block="a", step=3)
    assert np.isnan(unpack(answer.data)[3]).all()
    assert list(load_histograms(str(tmp_path / "run")).block.cat.categories) == ["a", "b", "c"]


def test_path_lengths_of_a_workdir_are_answered_with_its_log(server, tmp_path):
    assert server.get("/path_lengths", run="plain").json == {"steps": [], "shares": []}
    write_run(tmp_path / "trained" / "gradients", [0])
    text = "step,length,sample,gradient_norm,number_of_paths\n7,0,0,2,1\n7,1,0,1,1\n7,1,1,3,1\n7,2"
    (tmp_path / "trained" / "path_lengths.csv").write_text(text)
    server.reload()
    answer = server.get("/path_lengths", run="trained/gradients")
    assert answer.json == {"steps": [7], "shares": [[0.5, 0.5]]}
    assert server.get("/path_lengths", run="../trained").status_code == 404


def test_the_last_test_accuracy_is_read_beside_the_log_or_a_reason_is_given(server, tmp_path):
    unknown = {"epoch": None, "test_accuracy": None}
    reason = "there is no metrics.jsonl of train.py beside the log"
    assert server.get("/test_accuracy", run="plain").json == {**unknown, "reason": reason}
    write_run(tmp_path / "trained" / "gradients", [0])
    server.reload()
    metrics = tmp_path / "trained" / "metrics.jsonl"
    line = '{"epoch": %d, "test_accuracy": %s, "test_loss": 1.0}\n'
    for text, answer in [
        ("", {**unknown, "reason": "no epoch is over yet"}),
        # A resumed run can have written an epoch again, and a killed one half of a line.
        (line % (2, 0.75) + line % (1, 0.5) + '{"epoch": 3', {"epoch": 2, "test_accuracy": 0.75}),
        (line % (1, "null"), {"epoch": 1, "test_accuracy": None}),
        ("{}\n", {**unknown, "reason": f"Line 1 of {metrics} cannot be read: it has no 'epoch'"}),
    ]:
        metrics.write_text(text)
        found = server.get("/test_accuracy", run="trained/gradients").json
        assert found == {"reason": "", **answer}


def test_a_long_run_is_thinned_out_and_says_so(server):
    header, steps, _, _ = unpack(server.get("/data", run="plain", max_steps=4).data)
    assert header["recorded_steps"] == 10
    assert len(steps) <= 4
    assert (steps[0], steps[-1]) == (0, 45)


def test_every_statistic_has_the_same_steps(tmp_path):
    writer = LogWriter(str(tmp_path / "run"), BLOCKS, STATISTICS, first_step=0)
    for step in range(100):
        writer.write(step, np.full((2, 3), np.inf if step == 50 else 0.0), {})
    writer.close()
    server = serve(tmp_path)
    answers = [
        unpack(server.get("/data", run="run", statistic=name, max_steps=8).data)[1]
        for name in STATISTICS
    ]
    assert all(50 in steps for steps in answers)


def test_new_steps_appear_after_a_reload(server, tmp_path):
    assert len(unpack(server.get("/data", run="plain").data)[1]) == 10
    write_run(tmp_path / "plain", [50, 55])
    server.reload()
    assert unpack(server.get("/data", run="plain").data)[1][-1] == 55


@pytest.fixture
def shared(server, monkeypatch):
    """The listings that were made, with a clock that moves on request; they are kept for 1 s."""
    monkeypatch.setattr(listings, "SECONDS_KEPT", 1)
    clock = SimpleNamespace(now=0.0, listed=[])
    monkeypatch.setattr(listings.time, "monotonic", lambda: clock.now)
    of_provider = server.plugin._provider.list_tensors

    def list_tensors(ctx, run_tag_filter, **others):
        clock.listed.append(run_tag_filter.runs and [*run_tag_filter.runs])
        return of_provider(ctx, run_tag_filter=run_tag_filter, **others)

    monkeypatch.setattr(server.plugin._provider, "list_tensors", list_tensors)
    return clock


def test_requests_that_follow_each_other_closely_share_a_listing(server, shared, tmp_path):
    routes = ("/alarms", "/loss", "/epochs", "/data", "/path_lengths", "/test_accuracy")
    with ThreadPoolExecutor(len(routes)) as pool:
        answers = list(pool.map(lambda route: server.get(route, run="plain"), routes))
    assert {answer.status_code for answer in answers} == {200}
    assert shared.listed == [["plain"]]
    assert len(server.get("/runs").json["runs"]) == 2
    assert server.get("/data", run=SCRIPT).status_code == 200
    assert server.get("/data", run="no run").status_code == 404
    assert shared.listed == [["plain"], None]
    write_run(tmp_path / "plain", [50, 55])
    server.reload()
    shared.now = 0.9
    assert unpack(server.get("/data", run="plain").data)[1][-1] == 45
    shared.now = 1.0
    assert unpack(server.get("/data", run="plain").data)[1][-1] == 55
    assert len(shared.listed) == 3


def test_steps_undone_by_a_restart_are_gone(server, tmp_path):
    write_run(tmp_path / "plain", [20, 21])
    server.reload()
    assert list(unpack(server.get("/data", run="plain").data)[1]) == [0, 5, 10, 15, 20, 21]


def test_what_is_drawn_stands_under_its_own_header(server, tmp_path):
    other = [{"name": "of another fit"}]
    for steps, blocks in (([50, 55], other), ([60], BLOCKS), ([65], other)):
        write_run(tmp_path / "plain", steps, blocks=blocks)
    server.reload()
    header, steps, _, values = unpack(server.get("/data", run="plain").data)
    assert header["left_out"] == 0
    assert header["blocks"] == [*(block["name"] for block in BLOCKS), "of another fit"]
    assert list(steps) == [*range(0, 50, 5), 50, 55, 60, 65]
    for index, step in enumerate(steps):
        rows = [2] if step in (50, 55, 65) else [0, 1]
        expected = np.full((3, 3), np.nan)
        expected[rows] = values_of(int(step))[: len(rows)]
        np.testing.assert_array_equal(values[:, :, index].T, expected)
    described = next(run for run in server.get("/runs").json["runs"] if run["run"] == "plain")
    assert [block["name"] for block in described["blocks"]] == header["blocks"]
    assert described["last_step"] == 65


def test_steps_undone_by_a_restart_with_another_header_are_gone(server, tmp_path):
    write_run(tmp_path / "plain", [20, 25], blocks=[{"name": "of another fit"}])
    server.reload()
    _, steps, _, values = unpack(server.get("/data", run="plain").data)
    assert list(steps) == [0, 5, 10, 15, 20, 25]
    assert np.isnan(values[:, :2, 4:]).all()
    assert list(load(str(tmp_path / "plain")).step.unique()) == list(steps)


def test_steps_of_another_shape_under_one_header_are_left_out_and_counted(server, tmp_path):
    # As earlier versions wrote them: TensorBoard knows the first header alone.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reszoo.gradients.log.writer.tag_of", lambda header, others: TAG)
        write_run(tmp_path / "plain", [50], blocks=BLOCKS[:1])
    server.reload()
    header, steps, _, _ = unpack(server.get("/data", run="plain").data)
    assert header["left_out"] == 1
    assert steps[-1] == 45


def test_a_run_that_cannot_be_read_says_why(server, tmp_path, monkeypatch):
    monkeypatch.setattr("reszoo.gradients.log.writer.FORMAT_VERSION", 2)
    write_run(tmp_path / "newer", [0])
    server.reload()
    newer = next(run for run in server.get("/runs").json["runs"] if run["run"] == "newer")
    assert "format 2" in newer["error"]
    refused = server.get("/data", run="newer")
    assert refused.status_code == 422
    assert "Install the version of reszoo" in refused.text


BROKEN = {
    "text": b"{",
    "bytes": b"\xff",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "nan": header(version=float("nan")),
    "nan in a block": header(blocks=[{"name": "a", "trainable_weights": float("nan")}]),
    "surrogate": header(blocks=[{"name": "\ud800"}]),
    "no block": header(blocks=[]),
    "two of a name": header(blocks=[{"name": "a"}, {"name": "a"}]),
    "blocks": header(blocks=None),
    "names": header(blocks=["a"]),
    "statistics": header(statistics=3),
    "tomorrow": header(version=2),
}


def strictly(answer):
    """JSON as a browser reads it."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(answer.data, parse_constant=refuse)


def test_runs_with_broken_headers_stand_among_the_others(tmp_path):
    write_run(tmp_path / "good", [0])
    for name, content in BROKEN.items():
        write_raw(tmp_path / name / "events.out.tfevents.1", content)
    unknown = [{"name": "a", "of_tomorrow": float("inf"), "strides": float("nan")}]
    write_raw(tmp_path / "unknown" / "events.out.tfevents.1", header(blocks=unknown))
    server = serve(tmp_path)
    runs = {run["run"]: run for run in strictly(server.get("/runs"))["runs"]}
    assert set(runs) == {*BROKEN, "good", "unknown"}
    assert {name for name, run in runs.items() if "error" in run} == set(BROKEN)
    assert runs["unknown"]["blocks"] == [{"name": "a", "of_tomorrow": None, "strides": None}]
    for name in BROKEN:
        answer = server.get("/data", run=name)
        assert (answer.status_code, answer.text) == (422, runs[name]["error"])
        assert len(answer.text.splitlines()) == 1
    assert len(unpack(server.get("/data", run="good").data)[1]) == 1


@pytest.mark.parametrize(
    "values",
    [np.array([["text"]], object), np.array([[1j]], np.complex64), np.zeros((2, 2)), np.zeros(())],
    ids=["text", "complex", "shape", "scalar"],
)
def test_records_that_are_no_numbers_of_the_header_are_left_out_and_counted(tmp_path, values):
    write_raw(tmp_path / "run" / "events.out.tfevents.1", header(), b"", values=values)
    write_raw(tmp_path / "run" / "events.out.tfevents.2", b"", step=5)
    server = serve(tmp_path)
    found, steps, _, _ = unpack(server.get("/data", run="run").data)
    assert (found["left_out"], list(steps)) == (2, [5])


def test_a_damaged_record_is_a_sentence_and_other_runs_are_served(tmp_path):
    write_run(tmp_path / "good", [0])
    tensor = tf.make_tensor_proto(np.zeros((1, 1), np.float32))
    tensor.tensor_content = b"\0\0"
    write_raw(tmp_path / "cut" / "events.out.tfevents.1", header(), values=tensor)
    server = serve(tmp_path)
    assert [run["run"] for run in server.get("/runs").json["runs"]] == ["cut", "good"]
    answer = server.get("/data", run="cut")
    assert answer.status_code == 422
    assert "'cut' holds a damaged record" in answer.text
    assert len(answer.text.splitlines()) == 1
    assert server.get("/data", run="good").status_code == 200


def test_an_alarm_of_any_text_is_served(tmp_path):
    write_run(tmp_path / "run", [0])
    texts = ['{"text": "\\ud800"}', '{"text": NaN}', "[" * 100_000, '{"block": {"a": Infinity}}']
    writer = LogWriter(str(tmp_path / "run"), BLOCKS, STATISTICS, first_step=1)
    writer.write_findings(0, texts)
    writer.close()
    assert len(strictly(serve(tmp_path).get("/alarms", run="run"))["alarms"]) == 4


def test_alarms_are_those_of_the_run(server, tmp_path):
    assert server.get("/alarms", run="plain").json == {"alarms": []}
    alarm = {"step": 10, "alarm": "vanishing", "block": "stage1_block1", "path": "skip"}
    others = [{**alarm, "step": step} for step in (5, *range(20, 45))]
    write_alarms(tmp_path / "plain", [{**alarm, "text": SCRIPT}, {**alarm, "text": "b"}, *others])
    server.reload()
    first, second, third, *more = server.get("/alarms", run="plain").json["alarms"]
    assert (first["step"], second["step"], third["step"]) == (5, 10, 10)
    assert (second["text"], third["text"]) == (SCRIPT, "b")
    assert (second["alarm"], second["block"], second["path"]) == (
        "vanishing",
        "stage1_block1",
        "skip",
    )
    assert len(more) == 25


def test_the_step_of_an_alarm_is_never_thinned_out(server, tmp_path):
    query = {"run": "plain", "max_steps": 3}
    assert 10 not in unpack(server.get("/data", **query).data)[1]
    write_alarms(tmp_path / "plain", [{"step": 10, "alarm": "vanishing", "text": "gone"}])
    server.reload()
    assert 10 in unpack(server.get("/data", **query).data)[1]


@pytest.mark.parametrize(
    ("route", "query", "code", "sentence"),
    [
        ("/data", {}, 400, "Give one run"),
        ("/data", {"run": ["plain", "other"]}, 400, "Give one run"),
        ("/data", {"run": "nowhere"}, 404, "no run 'nowhere'"),
        ("/histograms", {"run": "nowhere"}, 404, "no run 'nowhere'"),
        ("/histograms", {"run": "plain", "step": "-1"}, 400, "step must be a whole number"),
        ("/data", {"run": "other"}, 404, "no run 'other'"),
        ("/data", {"run": "empty"}, 404, "no run 'empty'"),
        ("/data", {"run": ""}, 404, "no run ''"),
        ("/data", {"run": "../plain"}, 404, "no run"),
        ("/data", {"run": "plain/../plain"}, 404, "no run"),
        ("/data", {"run": "/etc/passwd"}, 404, "no run"),
        ("/data", {"run": "plain\0"}, 404, "no run"),
        ("/data", {"run": "plain", "tag": "loss"}, 400, "no parameter 'tag'"),
        ("/data", {"run": "plain", "block": "b"}, 404, "no block 'b'"),
        ("/data", {"run": "plain", "statistic": "loss"}, 404, "no statistic 'loss'"),
        ("/data", {"run": "plain", "first_step": "x"}, 400, "first_step must be a whole number"),
        ("/data", {"run": "plain", "first_step": "-1"}, 400, "but is '-1'"),
        ("/data", {"run": "plain", "first_step": "1e3"}, 400, "but is '1e3'"),
        ("/data", {"run": "plain", "first_step": "²"}, 400, "first_step"),
        ("/data", {"run": "plain", "last_step": str(2**63)}, 400, "last_step"),
        ("/data", {"run": "plain", "last_step": "9" * 5000}, 400, "last_step"),
        ("/data", {"run": "plain", "first_step": "9", "last_step": "8"}, 400, "from 9 to"),
        ("/data", {"run": "plain", "max_steps": "2"}, 400, "from 3 to 10000"),
        ("/data", {"run": "plain", "max_steps": "10001"}, 400, "from 3 to 10000"),
        ("/alarms", {"run": "nowhere"}, 404, "no run 'nowhere'"),
        ("/runs", {"run": "plain"}, 400, "no parameter 'run'"),
    ],
)
def test_a_bad_request_gets_one_sentence(server, route, query, code, sentence):
    answer = server.get(route, **query)
    assert answer.status_code == code
    assert answer.mimetype == "text/plain"
    assert sentence in answer.text
    assert len(answer.text.splitlines()) == 1


def test_an_answer_too_large_is_refused(server, monkeypatch):
    monkeypatch.setattr(plugins, "MOST_BYTES_AN_ANSWER", 100)
    answer = server.get("/data", run="plain")
    assert answer.status_code == 413
    assert "Ask for fewer" in answer.text
    assert server.get("/data", run="plain", statistic="skip_share").status_code == 200


def test_only_reading_is_allowed(server):
    assert server.get("/data", method="POST", run="plain").status_code == 405
    assert server.get("/runs", method="HEAD").status_code == 200


def test_every_sample_of_a_long_run_is_there_up_to_the_default(tmp_path):
    write_run(tmp_path / "run", range(300))
    header, _, _, _ = unpack(serve(tmp_path).get("/data", run="run").data)
    assert header["recorded_steps"] == 300
    header, steps, _, _ = unpack(serve(tmp_path, samples=20).get("/data", run="run").data)
    assert header["recorded_steps"] == 20
    assert steps[-1] == 299
