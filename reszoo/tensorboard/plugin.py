"""The Gradient Flow plugin: the routes by which TensorBoard's server answers the page."""

import collections
import contextlib
import dataclasses
import functools
import importlib.resources
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.context import RequestContext
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from reszoo.gradients.log.format import (
    EPOCH_TAG,
    FINDINGS_TAG,
    HISTOGRAMS_TAG,
    LOSS_TAGS,
    PLUGIN_NAME,
    TABLES_PLUGIN,
    TAG,
    is_tag_of,
    parse_header,
)
from reszoo.gradients.log.packed_layers import pack_layers
from reszoo.tensorboard import recording as recordings
from reszoo.tensorboard.beside import last_test_accuracy
from reszoo.tensorboard.listings import Listings
from reszoo.tensorboard.path_lengths import path_lengths_of
from reszoo.tensorboard.recording import Recording

# Recorded steps of a run that TensorBoard keeps, unless --samples_per_plugin sets another number.
# Of a longer run it keeps a random sample.
DEFAULT_SAMPLES = 10_000
# And of tables beside them, such as histograms, which are larger.
DEFAULT_TABLE_SAMPLES = 500
MOST_STEPS_AN_ANSWER = 10_000
DEFAULT_STEPS_AN_ANSWER = 1_000
MOST_BYTES_AN_ANSWER = 64 * 2**20
_SCALARS_PLUGIN = "scalars"
_LAST_STEP = 2**63 - 1


class GradientFlowLoader(base_plugin.TBLoader):
    """Loader of the plugin, with the number of samples that it needs."""

    def fix_flags(self, flags: Any) -> None:
        """Raises the number of steps per run that TensorBoard keeps, 10 for an unknown plugin."""
        flags.samples_per_plugin.setdefault(PLUGIN_NAME, DEFAULT_SAMPLES)
        flags.samples_per_plugin.setdefault(TABLES_PLUGIN, DEFAULT_TABLE_SAMPLES)

    def load(self, context: base_plugin.TBContext) -> "GradientFlowPlugin":
        """Returns the plugin."""
        return GradientFlowPlugin(context)


@dataclasses.dataclass(frozen=True)
class _Tensors:
    """One kind of tensors in a log.

    Attributes:
        plugin_name: The plugin by which they are written.
        tag: Their tag, without a digest.
    """

    plugin_name: str
    tag: str


@dataclasses.dataclass(frozen=True)
class _Tables(_Tensors):
    """Tensors with a header, which make up a recording.

    Attributes:
        parse: Reads a header.
        most_held: The number of runs of which they are held.
    """

    parse: Callable[[bytes], dict]
    most_held: int


_STEPS = _Tables(PLUGIN_NAME, TAG, parse_header, most_held=16)
_HISTOGRAMS = _Tables(TABLES_PLUGIN, HISTOGRAMS_TAG, recordings.histograms_header, most_held=2)
_FINDINGS = _Tensors(PLUGIN_NAME, FINDINGS_TAG)


class _BadRequestError(Exception):
    def __init__(self, sentence: str, code: int = 400):
        super().__init__(sentence)
        self.code = code


def _answer(routine: Callable) -> Callable:
    """Decorates a method from a request to (content, content type) as a WSGI application."""

    # The hints of Werkzeug know functions only, no methods.
    @wrappers.Request.application  # pyright: ignore[reportArgumentType]
    @functools.wraps(routine)
    def application(self: "GradientFlowPlugin", request: wrappers.Request) -> Any:
        try:
            if request.method not in ("GET", "HEAD"):
                raise _BadRequestError("The method must be GET or HEAD.", 405)
            content, content_type = routine(self, request)
        except _BadRequestError as error:
            return http_util.Respond(request, str(error), "text/plain", code=error.code)
        except errors.PublicError as error:
            return http_util.Respond(request, str(error), "text/plain", code=error.http_code)
        return http_util.Respond(request, content, content_type)

    return application


class GradientFlowPlugin(base_plugin.TBPlugin):
    """Server of the page and its data.

    | route | answer |
    | --- | --- |
    | `/index.js` | the page |
    | `/runs` | JSON: the runs with recorded steps, their blocks, statistics and tested alarms |
    | `/data` | steps and values of a run, packed as `reszoo.tensorboard.recording` describes |
    | `/histograms` | histograms of the kept step that is nearest to one, packed in the same way |
    | `/alarms` | JSON: the alarms of a run |
    | `/path_lengths` | JSON: shares of the gradient by the length of its path |
    | `/test_accuracy` | JSON: the last test accuracy of a training, or why it is not known |
    | `/loss` | JSON: steps and values of the loss, empty if the log has none |
    | `/epochs` | JSON: the steps with which epochs begin, empty if the log does not say |

    A bad request is answered with a 4xx code and one sentence.

    Args:
        context: TensorBoard's context, with the data provider of the log directory.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext):
        self._provider: Any = context.data_provider
        self._log_dir: str | None = context.logdir
        self._listings = Listings(context.data_provider)
        self._held: dict[str, collections.OrderedDict] = {
            kind.tag: collections.OrderedDict() for kind in (_STEPS, _HISTOGRAMS)
        }
        self._lock = threading.Lock()

    def get_plugin_apps(self) -> dict[str, Callable]:
        """Returns the WSGI application of each route."""
        return {
            "/index.js": self._serve_page,
            "/runs": self._serve_runs,
            "/data": self._serve_data,
            "/histograms": self._serve_histograms,
            "/alarms": self._serve_alarms,
            "/loss": self._serve_loss,
            "/epochs": self._serve_epochs,
            "/path_lengths": self._serve_path_lengths,
            "/test_accuracy": self._serve_test_accuracy,
        }

    def is_active(self) -> bool:
        """Returns whether a log has recorded steps."""
        return bool(self._provider) and bool(self._list(RequestContext(), ""))

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Returns the module of the page and the name of its tab."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Gradient Flow")

    @_answer
    def _serve_page(self, request: wrappers.Request) -> tuple[Any, str]:
        page = importlib.resources.files("reszoo.tensorboard").joinpath("static/index.js")
        return page.read_bytes(), "text/javascript"

    @_answer
    def _serve_runs(self, request: wrappers.Request) -> tuple[Any, str]:
        _arguments(request, ())
        runs = self._list(*_context(request))
        return {"runs": [_describe_run(run, runs[run]) for run in sorted(runs)]}, "application/json"

    @_answer
    def _serve_data(self, request: wrappers.Request) -> tuple[Any, str]:
        allowed = ("run", "block", "statistic", "first_step", "last_step", "max_steps")
        arguments = _arguments(request, allowed)
        first = _integer(arguments, "first_step", 0, 0, _LAST_STEP)
        last = _integer(arguments, "last_step", _LAST_STEP, first, _LAST_STEP)
        limit = _integer(arguments, "max_steps", DEFAULT_STEPS_AN_ANSWER, 3, MOST_STEPS_AN_ANSWER)
        run = _run_name(arguments)
        whole = self._recording(*_context(request), run)
        available = int(((whole.steps >= first) & (whole.steps <= last)).sum())
        marked = [alarm["step"] for alarm in self._alarms(*_context(request), run)]
        # Steps are chosen before statistics, so that every statistic has the same steps.
        thinned = recordings.select_steps(whole, first, last, limit, marked)
        recording = _selected(thinned, arguments.getlist("block"), arguments.getlist("statistic"))
        _check_size(recording.values.nbytes)
        return recordings.pack(recording, available), "application/octet-stream"

    @_answer
    def _serve_histograms(self, request: wrappers.Request) -> tuple[Any, str]:
        arguments = _arguments(request, ("run", "block", "step"))
        step = _integer(arguments, "step", _LAST_STEP, 0, _LAST_STEP)
        run = _run_name(arguments)
        context = _context(request)
        self._series(*context, run)
        recording = recordings.stack({"blocks": [], "statistics": []}, [])
        if self._list(*context, run, _HISTOGRAMS):
            whole = self._recording(*context, run, _HISTOGRAMS)
            recording = _selected(recordings.at_nearest(whole, step), arguments.getlist("block"))
        return recordings.pack(recording, len(recording.steps)), "application/octet-stream"

    @_answer
    def _serve_alarms(self, request: wrappers.Request) -> tuple[Any, str]:
        run = _run_name(_arguments(request, ("run",)))
        self._series(*_context(request), run)
        return {"alarms": self._alarms(*_context(request), run)}, "application/json"

    @_answer
    def _serve_loss(self, request: wrappers.Request) -> tuple[Any, str]:
        losses = self._scalars(request, LOSS_TAGS)
        return recordings.describe_loss(losses), "application/json"

    @_answer
    def _serve_epochs(self, request: wrappers.Request) -> tuple[Any, str]:
        epochs = self._scalars(request, [EPOCH_TAG])
        return recordings.describe_epochs(epochs), "application/json"

    @_answer
    def _serve_path_lengths(self, request: wrappers.Request) -> tuple[Any, str]:
        return path_lengths_of(self._log_dir_of(request)), "application/json"

    @_answer
    def _serve_test_accuracy(self, request: wrappers.Request) -> tuple[Any, str]:
        return last_test_accuracy(self._log_dir_of(request)), "application/json"

    def _log_dir_of(self, request: wrappers.Request) -> str | None:
        """Returns the directory of a run; an uploaded experiment has none."""
        run = _run_name(_arguments(request, ("run",)))
        self._series(*_context(request), run)
        return os.path.join(self._log_dir, run) if self._log_dir else None

    def _scalars(self, request: wrappers.Request, tags: Sequence[str]) -> dict[int, float]:
        """Returns the scalars of a run, by step, of the first of the tags that it has."""
        run = _run_name(_arguments(request, ("run",)))
        ctx, experiment_id = _context(request)
        self._series(ctx, experiment_id, run)
        read = self._provider.read_scalars(
            ctx,
            experiment_id=experiment_id,
            plugin_name=_SCALARS_PLUGIN,
            downsample=DEFAULT_STEPS_AN_ANSWER,
            run_tag_filter=provider.RunTagFilter(runs=[run], tags=tags),
        )
        by_tag = (read or {}).get(run, {})
        points = next((by_tag[tag] for tag in tags if by_tag.get(tag)), [])
        return {d.step: d.value for d in points}

    def _list(
        self,
        ctx: RequestContext,
        experiment_id: str,
        run: str | None = None,
        kind: _Tensors = _STEPS,
    ) -> dict[str, dict[str, Any]]:
        """Returns the time series of a kind, by run and tag."""
        listed = self._listings.tensors(ctx, experiment_id, kind.plugin_name, run)
        wanted = {
            each: {tag: tags[tag] for tag in sorted(tags) if is_tag_of(tag, kind.tag)}
            for each, tags in listed.items()
            if run in (None, each)
        }
        return {each: tags for each, tags in wanted.items() if tags}

    def _read(
        self, ctx: RequestContext, experiment_id: str, run: str, tag: str, plugin_name: str
    ) -> Sequence[Any]:
        try:
            read = self._provider.read_tensors(
                ctx,
                experiment_id=experiment_id,
                plugin_name=plugin_name,
                downsample=10 * DEFAULT_SAMPLES,
                run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
            )
        except (TypeError, ValueError) as error:  # the bytes are no tensor
            raise _BadRequestError(
                f"The log of the run {run!r} holds a damaged record of {tag!r} ({error}). "
                "reszoo.gradients.load reads the others.",
                422,
            ) from error
        return (read or {}).get(run, {}).get(tag, [])

    def _series(
        self, ctx: RequestContext, experiment_id: str, run: str, kind: _Tables = _STEPS
    ) -> dict[str, Any]:
        """Returns the time series of a run by tag, one for each header of its log."""
        series = self._list(ctx, experiment_id, run, kind)
        if run not in series:
            raise _BadRequestError(f"There is no run {run!r} with recorded gradients.", 404)
        return series[run]

    def _recording(
        self, ctx: RequestContext, experiment_id: str, run: str, kind: _Tables = _STEPS
    ) -> Recording:
        """Returns the recording of a run of some kind, which is read again only after new steps."""
        series = self._series(ctx, experiment_id, run, kind)
        key = (experiment_id, run)
        version = {tag: (of_tag.max_step, of_tag.max_wall_time) for tag, of_tag in series.items()}
        of_kind = self._held[kind.tag]
        with self._lock:
            held_version, held = of_kind.get(key, (None, None))
            if held_version != version:
                headers = _headers(series, kind)
                if not headers:
                    raise _BadRequestError(_why_unreadable(series, kind), 422)
                read = functools.partial(self._read, ctx, experiment_id, run)
                held = _stack({tag: read(tag, kind.plugin_name) for tag in series}, headers)
            of_kind[key] = (version, held)
            of_kind.move_to_end(key)
            while len(of_kind) > kind.most_held:
                of_kind.popitem(last=False)
        return held

    def _alarms(self, ctx: RequestContext, experiment_id: str, run: str) -> list[dict]:
        """Returns the alarms of a run, by step."""
        if not self._list(ctx, experiment_id, run, _FINDINGS):
            return []
        found = [
            recordings.parse_alarm(datum.step, datum.wall_time, text)
            for datum in self._read(ctx, experiment_id, run, FINDINGS_TAG, PLUGIN_NAME)
            for text in _texts(datum.numpy)
        ]
        return sorted(found, key=lambda alarm: (alarm["step"], alarm["wall_time"]))


def _context(request: wrappers.Request) -> tuple[RequestContext, str]:
    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _headers(series: Mapping[str, Any], kind: _Tables = _STEPS) -> dict[str, dict]:
    """Returns the readable headers, by tag."""
    headers = {}
    for tag, of_tag in series.items():
        with contextlib.suppress(ValueError):
            headers[tag] = kind.parse(of_tag.plugin_content)
    return headers


def _why_unreadable(series: Mapping[str, Any], kind: _Tables = _STEPS) -> str:
    """Returns the error of the first unreadable header."""
    for of_tag in series.values():
        try:
            kind.parse(of_tag.plugin_content)
        except ValueError as error:
            return str(error)
    return ""


def _selected(
    recording: Recording, blocks: Sequence[str], statistics: Sequence[str] = ()
) -> Recording:
    try:
        return recordings.select(recording, blocks, statistics)
    except ValueError as error:
        raise _BadRequestError(str(error), 404) from error


def _stack(data: Mapping[str, Sequence[Any]], headers: Mapping[str, Mapping]) -> Recording:
    """Returns the recording of a run from its recorded steps and headers, by tag."""
    points = {tag: [(d.step, d.wall_time, d.numpy) for d in data[tag]] for tag in data}
    parts = [recordings.stack(header, points[tag]) for tag, header in headers.items()]
    joined = recordings.join(recordings.without_undone(parts))
    unread = sum(len(points[tag]) for tag in points.keys() - headers.keys())
    return dataclasses.replace(joined, left_out=joined.left_out + unread)


def _describe_run(run: str, series: Mapping[str, Any]) -> dict[str, Any]:
    headers = _headers(series)
    if not headers:
        return {"run": run, "error": _why_unreadable(series)}
    described = _stack(dict.fromkeys(headers, ()), headers)
    by_time = sorted(headers, key=lambda tag: series[tag].max_wall_time)
    newest = {block["name"]: block for tag in by_time for block in headers[tag]["blocks"]}
    return {
        "run": run,
        "last_step": max(of_tag.max_step for of_tag in series.values()),
        "last_wall_time": max(of_tag.max_wall_time for of_tag in series.values()),
        **pack_layers([newest[block["name"]] for block in described.blocks]),
        "statistics": recordings.describe_statistics(described.statistics),
        "tested_alarms": described.tested_alarms,
    }


def _texts(array: np.ndarray) -> list[str]:
    return [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in array.ravel()
    ]


def _arguments(request: wrappers.Request, allowed: Sequence[str]) -> Any:
    for name in request.args:
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise _BadRequestError(
                f"There is no parameter {name!r} here; the parameters are: {known}."
            )
    return request.args


def _run_name(arguments: Any) -> str:
    runs = arguments.getlist("run")
    if len(runs) != 1:
        raise _BadRequestError("Give one run, as in ?run=NAME.")
    return runs[0]


def _integer(arguments: Any, name: str, default: int, smallest: int, largest: int) -> int:
    """Returns a parameter as a whole number within bounds."""
    text = arguments.get(name)
    if text is None:
        return default
    # str.isdigit and int() accept digits of other scripts.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not smallest <= number <= largest:
        raise _BadRequestError(
            f"The parameter {name} must be a whole number from {smallest} to {largest}, but is "
            f"{text!r}."
        )
    return number


def _check_size(size_bytes: int) -> None:
    if size_bytes > MOST_BYTES_AN_ANSWER:
        raise _BadRequestError(
            f"The answer must have at most {MOST_BYTES_AN_ANSWER} bytes, but would have "
            f"{size_bytes}. Ask for fewer statistics, blocks or steps.",
            413,
        )
