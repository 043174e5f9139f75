"""Version of the package, in a file that setup.py reads without importing TensorFlow."""

__version__ = "0.1.0"
