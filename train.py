"""Trains a model: `python train.py --config=configs/digits_resnet18.py --workdir=DIR`.

The flags are in `reszoo/train.py`; `python -m reszoo.train` is the same once installed.
"""

import runpy
from pathlib import Path

if __name__ == "__main__":
    # By its path: a mistyped flag should not wait until the package has imported TensorFlow.
    runpy.run_path(str(Path(__file__).with_name("reszoo") / "train.py"), run_name="__main__")
