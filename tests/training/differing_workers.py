"""Two workers that were not started alike; run by `test_strategy.py`, each with its `TF_CONFIG`.

Each prepares the same runs one after the other, and prints what came of it as JSON.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import reszoo.training.run as run_module
from reszoo.training import prepare
from reszoo.training.config import complete
from tests.training import tiny


def config_of(**changes):
    config = complete(tiny.get_config())
    config.update_from_flattened_dict({"strategy": "multi_worker", **changes})
    return config


def photos(folder, others):
    """Two classes of gray images; with other pixels in one of them if wanted."""
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(4):
            gray = 100 * label + index + 50 * (others and (name, index) == ("dog", 3))
            Image.fromarray(np.full((8, 8), gray, "uint8")).save(folder / name / f"{index}.png")
    return f"folder:{folder}"


def main(directory):
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    strategy = run_module.create_strategy("multi_worker")
    run_module.create_strategy = lambda _: strategy  # there can be one in a process
    own = directory / f"worker{index}"
    absolute = photos(own / "photos", others=index == 1)
    os.chdir(own)
    of_photos = {"data.image_size": 8, "batch_size": 2}
    starts = {
        "another seed": {"seed": index},
        "several fields": {"epochs": 3 + index, "dtype": ("float32", "mixed_bfloat16")[index]},
        "a field more": {"model.norm": "group"} if index else {},
        "another path": {"data.name": absolute, **of_photos},
        "other data": {"data.name": "folder:photos", **of_photos},
    }
    for name, changes in starts.items():
        try:
            prepare(config_of(**changes), directory / "run")
            said = ""
        except ValueError as error:
            said = str(error)
        print(json.dumps([name, said]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
