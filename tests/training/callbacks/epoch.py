"""Metrics of an epoch, as the loop hands them to callbacks."""

LOGS = {
    "loss": 1.0,
    "accuracy": 0.5,
    "top5_accuracy": 0.875,
    "val_loss": 2.0,
    "val_accuracy": 0.25,
    "val_top5_accuracy": 0.75,
    "learning_rate": 0.125,
    "images_per_second": 100.0,
}
