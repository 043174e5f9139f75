"""Callbacks of the training loop, a class a file.

- `loop_callback`: `LoopCallback`, the base class, with all that the loop asks of one
- `callback_list`: `LoopCallbackList`, which the loop drives
- `create`: those of a run, in their order
- `held_workdir`, `finite_loss`, `stop_on_signal`, `best_epoch`: they may end the training
- `checkpoints`: saves and restores
- `confusion_counts`: counts of which classes are taken for which
- `progress`: the terminal
- `metrics_log`, `logging`: `metrics.jsonl`, and Weights & Biases or MLflow
- `tensorboard_scalars`, `example_images`, `model_graph`, `confusion_picture`: TensorBoard
- `profiler`: where the time of some steps goes

`reszoo.gradients.GradientRecorder` is one more.
"""
