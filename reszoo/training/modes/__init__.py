"""Modes of the command line that use a trained model.

- `evaluate`: figures and confusion matrix of the test examples
- `export`: files for TensorFlow Serving, ONNX Runtime and LiteRT
- `predict`: classes of single images
- `trained_model`: the model of a run, loaded and checked
"""
