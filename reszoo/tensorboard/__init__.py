"""Gradient Flow: a page of TensorBoard with the gradient of each path of each block.

- `plugin`: the routes of TensorBoard's server, found by TensorBoard through an entry point
- `listings`: the runs and their tags, listed once for requests that follow each other closely
- `recording`: recorded steps as arrays, and the packed form that the page reads
- `beside`, `path_lengths`: what `train.py` writes beside a log
- `frontend`: the sources of the page; `static` has the built page

Nothing is imported here, since every start of TensorBoard imports this package.
"""
