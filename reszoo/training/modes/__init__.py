"""Modes of the command line that ask a trained model: evaluate, export, predict."""
