import io
import time

from reszoo.training.callbacks.progress import Progress
from reszoo.training.state import TrainingState

LOGS = {
    "loss": 1.5,
    "accuracy": 0.5,
    "val_loss": 2.5,
    "val_accuracy": 0.25,
    "images_per_second": 1234.5,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(stream, epochs_done=0):
    progress = Progress(50, TrainingState(epoch=epochs_done), stream)
    progress.set_params({"epochs": 4, "steps": 2})
    progress.on_train_begin()
    for epoch in range(epochs_done, epochs_done + 2):
        progress.on_epoch_begin(epoch)
        for batch in range(2):
            time.sleep(0.11)  # the bar is drawn ten times a second at most
            progress.on_train_batch_begin(batch)
            progress.on_train_batch_end(batch, LOGS)
        progress.on_epoch_end(epoch, LOGS)
    progress.close()
    return stream.getvalue()


def test_one_plain_line_an_epoch():
    assert show(io.StringIO()) == (
        "epoch 1/4: loss 1.5000, accuracy 50.00%, test loss 2.5000, test accuracy 25.00%, "
        "1234 images/s\n"
        "epoch 2/4: loss 1.5000, accuracy 50.00%, test loss 2.5000, test accuracy 25.00%, "
        "1234 images/s\n"
    )


def test_the_bar_has_loss_accuracy_rate_and_time_left():
    text = show(Terminal())
    assert "epoch 1/4" in text
    assert "loss 1.5000, accuracy 50.00%" in text
    assert " images/s" in text
    assert "200/400" in text
    assert "<00:0" in text  # the time left
    assert text.count("test accuracy") == 2


def test_going_on_counts_what_is_done():
    text = show(Terminal(), epochs_done=2)
    assert "200/400" in text
    assert "400/400" in text
    assert "epoch 3/4" in text


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
    assert "150/250" in stream.getvalue()
    assert "250/250" in stream.getvalue()


def test_closing_what_never_began():
    Progress(1, TrainingState()).close()
