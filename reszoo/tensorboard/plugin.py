"""The Gradient Flow plugin: what TensorBoard's server answers the page."""

import collections
import contextlib
import dataclasses
import functools
import importlib.resources
import threading
from collections.abc import Callable

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.context import RequestContext
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from reszoo.tensorboard import recording as recordings
from reszoo.tensorboard.recording import PLUGIN_NAME, TAG, Recording

FINDINGS_TAG = f"{TAG}/findings"
# TensorBoard keeps so many recorded steps of a run, unless --samples_per_plugin says otherwise. Of
# a longer run it keeps a random choice, spread evenly.
DEFAULT_SAMPLES = 10_000
MOST_STEPS_AN_ANSWER = 10_000
DEFAULT_STEPS_AN_ANSWER = 1_000
MOST_BYTES_AN_ANSWER = 64 * 2**20
_RUNS_HELD = 16
_LAST_STEP = 2**63 - 1


class GradientFlowLoader(base_plugin.TBLoader):
    """Loads the plugin, with a number of samples that suits it."""

    def fix_flags(self, flags):
        """Has TensorBoard keep more than the ten tensors a run that it keeps of a new plugin."""
        flags.samples_per_plugin.setdefault(PLUGIN_NAME, DEFAULT_SAMPLES)

    def load(self, context):
        """Returns the plugin."""
        return GradientFlowPlugin(context)


class _BadRequestError(Exception):
    def __init__(self, sentence, code=400):
        super().__init__(sentence)
        self.code = code


def _answer(routine: Callable) -> Callable:
    """Makes a WSGI application of a method from a request to (content, content type)."""

    @wrappers.Request.application
    @functools.wraps(routine)
    def application(self, request):
        try:
            if request.method not in ("GET", "HEAD"):
                raise _BadRequestError("Only GET and HEAD are answered here.", 405)
            content, content_type = routine(self, request)
        except _BadRequestError as error:
            return http_util.Respond(request, str(error), "text/plain", code=error.code)
        except errors.PublicError as error:
            return http_util.Respond(request, str(error), "text/plain", code=error.http_code)
        return http_util.Respond(request, content, content_type)

    return application


class GradientFlowPlugin(base_plugin.TBPlugin):
    """Serves the page and its data.

    | route | answer |
    | --- | --- |
    | `/index.js` | the page |
    | `/runs` | JSON: the runs with recordings, their blocks and statistics |
    | `/data` | packed: steps and values of a run, see `reszoo.tensorboard.recording` |
    | `/alarms` | JSON: the alarms of a run |

    A bad request is answered with a 4xx code and one sentence.

    Args:
        context: TensorBoard's context.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext):
        self._provider = context.data_provider
        self._held = collections.OrderedDict()
        self._lock = threading.Lock()

    def get_plugin_apps(self):
        """Returns the routes."""
        return {
            "/index.js": self._serve_page,
            "/runs": self._serve_runs,
            "/data": self._serve_data,
            "/alarms": self._serve_alarms,
        }

    def is_active(self):
        """Returns whether a log holds recordings."""
        return bool(self._provider) and bool(self._list(RequestContext(), "", _is_recording))

    def frontend_metadata(self):
        """Returns how TensorBoard shows the page."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Gradient Flow")

    @_answer
    def _serve_page(self, request):
        page = importlib.resources.files("reszoo.tensorboard").joinpath("static/index.js")
        return page.read_bytes(), "text/javascript"

    @_answer
    def _serve_runs(self, request):
        _arguments(request, ())
        runs = self._list(*_context(request), _is_recording)
        return {"runs": [_describe_run(run, runs[run]) for run in sorted(runs)]}, "application/json"

    @_answer
    def _serve_data(self, request):
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
        try:
            recording = recordings.select(
                thinned, arguments.getlist("block"), arguments.getlist("statistic")
            )
        except ValueError as error:
            raise _BadRequestError(str(error), 404) from error
        _check_size(recording.values.nbytes)
        return recordings.pack(recording, available), "application/octet-stream"

    @_answer
    def _serve_alarms(self, request):
        run = _run_name(_arguments(request, ("run",)))
        self._series(*_context(request), run)
        return {"alarms": self._alarms(*_context(request), run)}, "application/json"

    def _list(self, ctx, experiment_id, is_wanted, runs=None):
        """Returns the time series by run and tag, of the tags that are wanted."""
        listed = self._provider.list_tensors(
            ctx,
            experiment_id=experiment_id,
            plugin_name=PLUGIN_NAME,
            run_tag_filter=provider.RunTagFilter(runs=runs),
        )
        wanted = {
            run: {tag: tags[tag] for tag in sorted(tags) if is_wanted(tag)}
            for run, tags in (listed or {}).items()
        }
        return {run: tags for run, tags in wanted.items() if tags}

    def _read(self, ctx, experiment_id, tag, run):
        try:
            read = self._provider.read_tensors(
                ctx,
                experiment_id=experiment_id,
                plugin_name=PLUGIN_NAME,
                downsample=10 * DEFAULT_SAMPLES,
                run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
            )
        except (TypeError, ValueError) as error:  # of bytes that are no tensor
            raise _BadRequestError(
                f"The log of the run {run!r} holds a damaged record of {tag!r} ({error}). "
                "reszoo.gradients.load reads the others.",
                422,
            ) from error
        return (read or {}).get(run, {}).get(tag, [])

    def _series(self, ctx, experiment_id, run):
        """Returns the time series of a run: one for each header that it was recorded under."""
        series = self._list(ctx, experiment_id, _is_recording, [run])
        if run not in series:
            raise _BadRequestError(f"There is no run {run!r} with recorded gradients.", 404)
        return series[run]

    def _recording(self, ctx, experiment_id, run) -> Recording:
        """Returns a run's recording, read again only if there is something new."""
        series = self._series(ctx, experiment_id, run)
        key = (experiment_id, run)
        version = {tag: (of_tag.max_step, of_tag.max_wall_time) for tag, of_tag in series.items()}
        with self._lock:
            held_version, held = self._held.get(key, (None, None))
            if held_version != version:
                headers = _headers(series)
                if not headers:
                    raise _BadRequestError(_why_unreadable(series), 422)
                held = _stack(
                    {tag: self._read(ctx, experiment_id, tag, run) for tag in series}, headers
                )
            self._held[key] = (version, held)
            self._held.move_to_end(key)
            while len(self._held) > _RUNS_HELD:
                self._held.popitem(last=False)
        return held

    def _alarms(self, ctx, experiment_id, run):
        """Returns what alarms found in a run, by step; none is not an error."""
        if not self._list(ctx, experiment_id, FINDINGS_TAG.__eq__, [run]):
            return []
        found = [
            recordings.parse_alarm(datum.step, datum.wall_time, text)
            for datum in self._read(ctx, experiment_id, FINDINGS_TAG, run)
            for text in _texts(datum.numpy)
        ]
        return sorted(found, key=lambda alarm: (alarm["step"], alarm["wall_time"]))


def _context(request):
    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _is_recording(tag):
    return recordings.is_tag_of(tag, TAG)


def _headers(series):
    """Returns the headers that can be read, by tag."""
    headers = {}
    for tag, of_tag in series.items():
        with contextlib.suppress(ValueError):
            headers[tag] = recordings.parse_header(of_tag.plugin_content)
    return headers


def _why_unreadable(series):
    for of_tag in series.values():
        try:
            recordings.parse_header(of_tag.plugin_content)
        except ValueError as error:
            return str(error)
    return ""


def _stack(data, headers):
    """Returns the recording of a run, given what was recorded under each header."""
    points = {tag: [(d.step, d.wall_time, d.numpy) for d in data[tag]] for tag in data}
    parts = [recordings.stack(header, points[tag]) for tag, header in headers.items()]
    joined = recordings.join(recordings.without_undone(parts))
    unread = sum(len(points[tag]) for tag in points.keys() - headers.keys())
    return dataclasses.replace(joined, left_out=joined.left_out + unread)


def _describe_run(run, series):
    headers = _headers(series)
    if not headers:
        return {"run": run, "error": _why_unreadable(series)}
    described = _stack(dict.fromkeys(headers, ()), headers)
    return {
        "run": run,
        "last_step": max(of_tag.max_step for of_tag in series.values()),
        "last_wall_time": max(of_tag.max_wall_time for of_tag in series.values()),
        "blocks": described.blocks,
        "statistics": recordings.describe_statistics(described.statistics),
    }


def _texts(array):
    return [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in array.ravel()
    ]


def _arguments(request, allowed):
    for name in request.args:
        if name not in allowed:
            known = ", ".join(allowed) or "none"
            raise _BadRequestError(f"There is no parameter {name!r} here; known is: {known}.")
    return request.args


def _run_name(arguments):
    runs = arguments.getlist("run")
    if len(runs) != 1:
        raise _BadRequestError("Give one run, as in ?run=NAME.")
    return runs[0]


def _integer(arguments, name, default, smallest, largest):
    """Returns a parameter as a whole number."""
    text = arguments.get(name)
    if text is None:
        return default
    # str.isdigit would let through digits that int() reads, of other scripts.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not smallest <= number <= largest:
        raise _BadRequestError(
            f"The parameter {name} is {text!r}; give a whole number from {smallest} to {largest}."
        )
    return number


def _check_size(size_bytes):
    if size_bytes > MOST_BYTES_AN_ANSWER:
        raise _BadRequestError(
            f"The answer would have {size_bytes} bytes, and {MOST_BYTES_AN_ANSWER} is the most; "
            "ask for fewer statistics, blocks or steps.",
            413,
        )
