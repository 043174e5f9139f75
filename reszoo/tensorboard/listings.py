"""Listings of time series, of which requests that follow each other closely share one."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from tensorboard.context import RequestContext
from tensorboard.data import provider

# Below the interval in which TensorBoard looks for new records, of at least a second.
SECONDS_KEPT = 1.0


class Listings:
    """Listings of the tensors of runs, each kept for `SECONDS_KEPT`.

    A page asks for several things about a run at once, and each answer needs the listing, which
    costs more than the answer. The requests wait for one of them to list.

    Args:
        data_provider: TensorBoard's data provider.
    """

    def __init__(self, data_provider: Any):
        self._provider = data_provider
        self._kept: dict[tuple, tuple[float, Mapping]] = {}
        self._lock = threading.Lock()

    def tensors(
        self, ctx: RequestContext, experiment_id: str, plugin_name: str, run: str | None = None
    ) -> Mapping[str, Mapping[str, Any]]:
        """Returns the time series of tensors of a plugin, by run and tag.

        Args:
            ctx: The context of the request.
            experiment_id: The experiment.
            plugin_name: The plugin by which the tensors were written.
            run: The run that is needed; `None` for all. There may be others in the answer.
        """
        with self._lock:
            for kept in (None, run):
                begin, listed = self._kept.get((experiment_id, plugin_name, kept), (-1e9, {}))
                if time.monotonic() - begin < SECONDS_KEPT:
                    return listed
            listed = self._provider.list_tensors(
                ctx,
                experiment_id=experiment_id,
                plugin_name=plugin_name,
                run_tag_filter=provider.RunTagFilter(runs=None if run is None else [run]),
            )
            now = time.monotonic()
            fresh = {key: old for key, old in self._kept.items() if now - old[0] < SECONDS_KEPT}
            self._kept = {**fresh, (experiment_id, plugin_name, run): (now, listed or {})}
        return listed or {}
