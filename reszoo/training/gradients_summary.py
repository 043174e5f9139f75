"""Summary of the gradients that a run recorded."""

import collections
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reszoo.gradients import read_findings, records
from reszoo.gradients.log import LeftOutWarning, event_files

RECORDED_STEPS = 10  # the last ones, over which medians are taken
_NEEDED = ("skip_share", "input_gradient_norm", "output_gradient_norm")


def summarize_gradients(log_dir: str) -> dict[str, Any]:
    """Returns the summary of a log, in constant memory.

    | key | meaning |
    |---|---|
    | `first_step`, `last_step` | the last 10 recorded steps, of which medians are taken |
    | `skip_share` | the median block's share of the skip in the gradient |
    | `last_to_first` | the gradient that leaves the first block over the one at the last |
    | `alarms` | number of times that each kind of alarm went off in the run |
    | `first_alarm_step` | step of the first, `None` if there was none |

    Args:
        log_dir: A recorder's `log_dir`.

    Returns:
        The summary; with the reason as `error` alone if the log cannot be read, or none of its
        steps has these statistics. If a part of the log cannot be read, `left_out` says what, and
        `ends_early` whether the end of the log is among it. If only the file of alarms cannot be
        read, `alarms` is `None` and the reason is `alarms_error`.
    """
    try:
        last, left_out = _last_steps(log_dir)
        damage = _in_words(left_out, log_dir)
    except ValueError as error:
        return {"error": str(error)}
    if not last:
        step = "No step that can be read" if damage else "No step"
        without = f"{step} was recorded with the set 'paths', which they are taken from."
        return {"error": f"{damage['left_out']} {without}" if damage else without}
    return {
        **damage,
        "first_step": last[0][0],
        "last_step": last[-1][0],
        "skip_share": _median([_median(values["skip_share"]) for _, values in last]),
        "last_to_first": _median([_last_to_first(values) for _, values in last]),
        **_alarms(log_dir),
    }


_Step = tuple[int, dict[str, np.ndarray]]


def _last_steps(log_dir: str) -> tuple[Sequence[_Step], Sequence[LeftOutWarning]]:
    """Returns the last recorded steps, and the warnings of what of the log is left out."""
    last: collections.deque[_Step] = collections.deque(maxlen=RECORDED_STEPS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for record in records(log_dir):
            values = dict(zip(record.statistics, record.values.T, strict=True))
            if all(name in values for name in _NEEDED):
                last.append((record.step, values))
    left_out = []
    for each in caught:
        if isinstance(each.message, LeftOutWarning):
            left_out.append(each.message)
        else:  # no matter of the log
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return last, left_out


def _in_words(left_out: Sequence[LeftOutWarning], log_dir: str) -> dict[str, Any]:
    if not left_out:
        return {}
    text = " ".join(dict.fromkeys(map(str, left_out)))
    with warnings.catch_warnings(action="ignore"):  # they are among those given
        newest = event_files(log_dir)[-1]
    return {"left_out": text, "ends_early": any(each.end_of >= newest for each in left_out)}


def _alarms(log_dir: str) -> dict[str, Any]:
    try:
        findings = read_findings(log_dir)
    except ValueError as error:
        return {"alarms": None, "first_alarm_step": None, "alarms_error": str(error)}
    return {
        "alarms": dict(collections.Counter(finding.alarm for finding in findings)),
        "first_alarm_step": min((finding.step for finding in findings), default=None),
    }


def gradients_in_words(summary: Mapping[str, Any]) -> str:
    """Returns the summary of a log as text for a table.

    Args:
        summary: A summary that `summarize_gradients` returned.

    Example:

    >>> gradients = {"skip_share": 0.56, "last_to_first": 3.3, "alarms": {}}
    >>> gradients_in_words(gradients)
    'skip 56% in the median block, x3.3 from the last block to the first, no alarms'
    """
    if "error" in summary:
        return f"not summarized. {summary['error']}"
    share, ratio = summary["skip_share"], summary["last_to_first"]
    skip = "share of the skip not defined" if math.isnan(share) else f"skip {share:.0%}"
    change = "not defined" if math.isnan(ratio) else f"x{_short(ratio)}"
    words = (
        f"{skip} in the median block, {change} from the last block to the first, "
        f"{_alarms_in_words(summary)}"
    )
    if "left_out" not in summary:
        return words
    begin = f"up to step {summary['last_step']}: " if summary.get("ends_early") else ""
    return f"{begin}{words}. {summary['left_out']}"


def _alarms_in_words(summary: Mapping[str, Any]) -> str:
    if summary["alarms"] is None:
        return f"alarms not known. {summary['alarms_error']}"
    number = sum(summary["alarms"].values())
    if not number:
        return "no alarms"
    kinds = ", ".join(
        kind.replace("_", " ") + f" {times}" * (times > 1)
        for kind, times in summary["alarms"].items()
    )
    return f"{number} alarm{'s' * (number > 1)} from step {summary['first_alarm_step']} on: {kinds}"


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if 100 <= ratio < 1e6 else f"{ratio:.2g}"


def _last_to_first(values: Mapping[str, np.ndarray]) -> float:
    first, last = values["input_gradient_norm"][0], values["output_gradient_norm"][-1]
    return float(first / last) if last else math.nan


def _median(values: Any) -> float:
    """Returns the median of the values that are defined; NaN if none is."""
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if known.size else math.nan
