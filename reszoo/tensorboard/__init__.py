"""Gradient Flow: the TensorBoard page that shows where the gradient goes.

TensorBoard finds `reszoo.tensorboard.plugin` by its entry point. Nothing is imported here, since
every start of TensorBoard imports this package.
"""
