"""Time until something happens: from the command to the first step, and until TensorBoard answers.

    python benchmarks/start.py --rounds=7

Each run is a process of its own. Every round starts each of them once, in a new random order, and
the seconds are those from the start of its Python program: of the process's CPU time and of wall
time. The first of each table is its baseline: what `import tensorflow, keras`, the model and a
first step of `fit` take without anything of `train.py`; and TensorBoard without the plugin.
"""

import argparse
import random
import subprocess
import sys
import tempfile

import numpy as np
from timing import machine, print_table

# Each program ends when its moment has come, with its CPU and its wall seconds as the last line.
_BEGIN = "import time; begin = time.perf_counter()\n"
_END = (
    "import os; print(time.process_time(), time.perf_counter() - begin, flush=True); os._exit(0)\n"
)
_FIRST_STEP_OF_FIT = f"""{_BEGIN}
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy, tensorflow
from reszoo.models import create_model
model = create_model("resnet18", num_classes=10, input_shape=(16, 16, 1), stem="cifar", width=16)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.1, 0.9, nesterov=True), loss)
model.train_on_batch(numpy.zeros((64, 16, 16, 1), "float32"), numpy.zeros(64, "int32"))
{_END}"""
# The loop's function of a step is found in the module once `train.py` has imported it, and replaced
# by one that ends the process after the first step.
_FIRST_STEP_OF_COMMAND = f"""{_BEGIN}
import runpy, sys, threading

def watch():
    while not hasattr(sys.modules.get("reszoo.training.loop"), "fit"):
        time.sleep(0.005)
    loop = sys.modules["reszoo.training.loop"]
    own = loop._recorded

    def recorded(*arguments):
        run = own(*arguments)

        def first(*arguments):
            run(*arguments)
            {_END.replace(chr(10), "")}

        return first

    loop._recorded = recorded

threading.Thread(target=watch, daemon=True).start()
sys.argv = ["train.py", "--config=configs/digits_resnet18.py", "--workdir=" + sys.argv[1]]
runpy.run_path("train.py", run_name="__main__")
"""
_TENSORBOARD = f"""{_BEGIN}
import sys, urllib.request
from tensorboard import default, program
plugins = default.get_static_plugins() + (default.get_dynamic_plugins() if %r else [])
board = program.TensorBoard(plugins=plugins)
board.configure(argv=["", "--logdir", sys.argv[1], "--port", "0", "--load_fast=false"])
urllib.request.urlopen(board.launch() + "data/plugins_listing").read()
{_END}"""

TABLES = {
    "to the first step": {
        "imports, model and a step of fit": _FIRST_STEP_OF_FIT,
        "train.py, recording": _FIRST_STEP_OF_COMMAND,
    },
    "until TensorBoard answers": {
        "without the plugin": _TENSORBOARD % False,
        "with the plugin": _TENSORBOARD % True,
    },
}


def seconds_of(program):
    """Returns the CPU and the wall seconds that a program prints."""
    with tempfile.TemporaryDirectory() as folder:
        finished = subprocess.run(
            [sys.executable, "-c", program, folder], check=True, stdout=subprocess.PIPE, text=True
        )
    return [float(word) for word in finished.stdout.split("\n")[-2].split()]


def measure(title, programs, rounds):
    """Prints the table of some programs."""
    seconds = {name: [] for name in programs}
    shuffled = random.Random(0)
    for program in programs.values() if rounds > 1 else ():  # so that all files are in memory
        seconds_of(program)
    for _ in range(rounds):
        for name in shuffled.sample(list(programs), len(programs)):
            seconds[name].append(seconds_of(programs[name]))
    baseline = next(iter(programs))
    rows = {name: np.array(values) for name, values in seconds.items()}
    print_table(title, rows, dict.fromkeys(programs, baseline))


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(machine())
    for title, programs in TABLES.items():
        print()
        measure(title, programs, options.rounds)


if __name__ == "__main__":
    main()
