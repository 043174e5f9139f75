import io
import re
import time

import pytest

from reszoo.training.callbacks import progress as module
from reszoo.training.callbacks.progress import Progress
from reszoo.training.state import TrainingState

LOGS = {
    "loss": 1.5,
    "accuracy": 0.5,
    "val_loss": 2.5,
    "val_accuracy": 0.25,
    "images_per_second": 1234.5,
}
LINE = "loss 1.5000, accuracy 50.00%; test loss 2.5000, accuracy 25.00%; 1,234 images/s\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that pass only where a test lets them."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def show(stream, epochs_done=0, epochs=4, steps=2, clock=None, seconds=()):
    """Shows two epochs, whose batches take some seconds each and whose tests take 10."""
    clock, seconds = clock or Clock(), iter(seconds)
    progress = Progress(50, TrainingState(epoch=epochs_done), stream)
    progress.set_params({"epochs": epochs, "steps": steps})
    progress.on_train_begin()
    for epoch in range(epochs_done, epochs_done + 2):
        progress.on_epoch_begin(epoch)
        for batch in range(steps):
            time.sleep(0.11)  # the bar is drawn ten times a second at most
            progress.on_train_batch_begin(batch)
            clock.now += next(seconds, 1.0)
            progress.on_train_batch_end(batch, LOGS)
        progress.on_test_begin()
        clock.now += 10
        progress.on_test_end(LOGS)
        progress.on_epoch_end(epoch, LOGS)
    progress.close()
    return stream.getvalue()


def test_one_plain_line_an_epoch():
    assert show(io.StringIO()) == f"epoch 1/4: {LINE}epoch 2/4: {LINE}"


def test_the_bar_has_epoch_step_loss_and_accuracy_and_is_gone_at_the_end():
    text = show(Terminal())
    for part in ("epoch 1/4 |", "step 1/8", "test 1/4 |", "epoch 2/4 |", "step 4/8"):
        assert part in text
    assert ", loss 1.5000, accuracy 50.00%" in text
    assert text.count("test loss") == 2
    assert re.search(r"\r *\r$", text)


def test_what_was_traced_first_and_second_does_not_count_in_the_time_left(clock):
    text = show(Terminal(), epochs=2, steps=5, clock=clock, seconds=[60, 30, 2, 2, 2])
    assert "step 1/10 " not in text.replace("\r", " \r").split("step 2/10")[1]
    before, after = text.split("step 4/10")
    assert "left" not in before
    # Six steps of 2 seconds, and both tests, of unknown length before the first.
    assert after.startswith(", 00:12 left, 25 images/s, loss")
    # Four steps of a second, whose median with the others is 2, and a test of 10 seconds.
    assert ", 00:18 left, 25 images/s, loss" in text.split("step 6/10")[1]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (120, f"epoch 100/100: {LINE[:-1]}"),
        (92, "epoch 100/100: loss 1.5000, accuracy 50.00%; test loss 2.5000, accuracy 25.00%"),
        (80, "epoch 100/100: loss 1.5000, accuracy 50.00%; test loss 2.5000, accuracy 25.00%"),
        (60, "epoch 100/100: loss 1.5000; test accuracy 25.00%"),
        (40, "epoch 100/100: test accuracy 25.00%"),
        (20, "epoch 100/100: test accuracy 25.00%"),
    ],
)
def test_the_line_of_an_epoch_fits_the_terminal(monkeypatch, columns, line):
    monkeypatch.setattr(module, "columns", lambda stream: columns)
    progress = Progress(50, TrainingState(), stream := io.StringIO())
    progress.set_params({"epochs": 100, "steps": 2})
    progress.on_epoch_begin(99)
    progress.on_epoch_end(99, LOGS)
    assert stream.getvalue() == f"{line}\n"


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (120, "00:18 left, 5,000 images/s, loss 1.5000, accuracy 50.00%"),
        (80, "00:18 left, loss 1.5000, accuracy 50.00%"),
        (60, "00:18 left, loss 1.5000"),
        (50, "00:18 left"),
        (40, ""),
    ],
)
def test_the_bar_has_what_the_terminal_has_room_for(monkeypatch, columns, figures):
    monkeypatch.setattr(module, "columns", lambda stream: columns)
    progress = Progress(50, TrainingState(), Terminal())
    progress.set_params({"epochs": 1, "steps": 1805})
    progress.on_epoch_begin(0)
    progress._draw_bar(4)
    progress._seconds_of_steps.extend([0.01] * 5)
    assert progress._figures(5, LOGS) == figures
    progress.close()


def test_going_on_counts_what_is_done():
    text = show(Terminal(), epochs_done=2)
    assert "step 5/8" in text
    assert "step 8/8" in text
    assert "epoch 3/4" in text
    assert "epoch 1/4" not in text


def test_several_batches_at_once_are_all_counted():
    stream = Terminal()
    progress = Progress(50, TrainingState(), stream)
    progress.set_params({"epochs": 1, "steps": 5})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    for first, last in ((0, 2), (3, 4)):
        time.sleep(0.11)
        progress.on_train_batch_begin(first)
        progress.on_train_batch_end(last, LOGS)
    progress.close()
    assert "step 3/5" in stream.getvalue()
    assert "step 5/5" in stream.getvalue()


def test_closing_what_never_began():
    Progress(1, TrainingState()).close()


class Tee:
    """A stream with no more than `write`."""

    def __init__(self):
        self.said = ""

    def write(self, text):
        self.said += text

    def getvalue(self):
        return self.said


def test_a_stream_that_can_only_write_has_the_lines_and_no_bar(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert show(Tee()) == f"epoch 1/4: {LINE}epoch 2/4: {LINE}"


def test_without_standard_output_nothing_is_shown(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    progress = Progress(50, TrainingState(), None)
    progress.set_params({"epochs": 1, "steps": 1})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    progress.on_train_batch_begin(0)
    progress.on_train_batch_end(0, LOGS)
    progress.on_epoch_end(0, LOGS)
    progress.close()
