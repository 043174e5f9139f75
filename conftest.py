"""The package's own doctests: those of a backend that is not installed are left out."""

import importlib.util

collect_ignore_glob = (
    [] if importlib.util.find_spec("torch") else ["reszoo/gradients/backend/torch/*"]
)
