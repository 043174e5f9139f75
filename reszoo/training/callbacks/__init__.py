"""Callbacks of the training loop, one class in each file.

- `loop_callback`: `LoopCallback`, the base class, with the members that the loop uses
- `callback_list`: `LoopCallbackList`, which the loop drives
- `create`: the callbacks of a run, in their order
- `held_workdir`, `finite_loss`, `stop_on_signal`, `best_epoch`: early ends of the training
- `checkpoints`: saving and restoring
- `confusion_counts`: the confusion matrix of each test
- `first_batch`: a call at the end of the first batch
- `progress`: progress on the terminal
- `metrics_log`, `logging`: `metrics.jsonl`, and Weights & Biases or MLflow
- `tensorboard_scalars`, `example_images`, `model_graph`, `confusion_picture`: TensorBoard
- `path_lengths`: gradients by the length of their path
- `hyperparameters`: the configuration, for TensorBoard
- `profiler`: profiles of some steps

`reszoo.gradients.GradientRecorder` is one more.
"""
