"""Recording on an accelerator: exactness, cost and memory, beside torchvision. Under 8 minutes.

    python benchmarks/accelerator.py
    python benchmarks/accelerator.py --small

It needs this package, keras and tensorboard, and JAX and PyTorch built for the device. On each
backend there are, each in a process of its own, so that one that fails leaves the others:

1. Exactness: the statistics of a small ResNet in float32, of the device and of the CPU, and its
   weights with a recorder, and in a second run without, beside a first one without.
2. Cost: a recorded step of `fit` to a plain one, interleaved, ResNet-50, 224x224, batch 256,
   bfloat16; images a second.
3. Memory: the peak of a plain and of a recorded training, each in a process of its own.
4. On PyTorch the training step of torchvision's ResNet-50, by `torch.compile` and in channels-last.

`--small` runs all of this in seconds on a CPU, where a device's memory is not reported, and
`torch.compile`, which needs a C++ compiler there, only with `--compile`. What has not begun when
`--minutes` are over is left out, and said so.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time

BACKENDS = ("torch", "jax")
CLASSES = 1000
# Of two backward passes in float32, whose sums are in another order. A statistic near zero, such as
# a cosine, is compared with 1.
CLOSE = 1e-3


def main():
    """Runs the benchmark, or the part of one backend."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--small", action="store_true", help="all parts, tiny, on any device")
    parser.add_argument("--compile", action="store_true", help="torch.compile also with --small")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=7.0, help="for all backends together")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is None:
        run_all(options)
        return
    options.end = time.monotonic() + 60 * options.minutes
    if options.small:
        options.rounds = 2
    if options.memory_of:
        print(peak_memory_here(options))
    else:
        PARTS[options.part](options)


def run_all(options):
    """Runs each part of each backend in a process of its own; fails if one of them failed."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp())
    failed = []
    for backend in options.backends:
        end = time.monotonic() + 60 * options.minutes / len(options.backends)
        for part in PARTS:
            if part == "torchvision" and backend != "torch":
                continue
            minutes = (end - time.monotonic()) / 60
            if run_here(options, backend, minutes, f"--part={part}").returncode:
                failed.append(f"{part} on {backend}")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. The errors are above.")


def run_here(options, backend, minutes, *arguments, **of_process):
    """Runs this script for a backend, and returns the finished process."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONFAULTHANDLER": "1",
        # A process that measures memory need not compile what another has compiled.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    given = [name for name in ("small", "compile") if getattr(options, name)]
    command = [sys.executable, __file__, *(f"--{name}" for name in given)]
    command += [f"--rounds={options.rounds}", f"--minutes={max(minutes, 0)}"]
    return subprocess.run([*command, *arguments], env=environment, **of_process)


def backend_here():
    """Returns the name of the Keras backend of this process."""
    import keras

    return keras.backend.backend()


def device_name():
    """Returns the name of the device that Keras uses, and says if it is no accelerator."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        name, is_cpu = device.device_kind, device.platform == "cpu"
    else:
        import torch

        is_cpu = not torch.cuda.is_available()
        name = "cpu" if is_cpu else torch.cuda.get_device_name()
    return f"device: {name}{', which is no accelerator' if is_cpu else ''}"


def is_late(options, what):
    """Returns whether the time is over, and says what is left out then."""
    late = time.monotonic() > options.end
    if late:
        print(f"\n{what}: left out, since this backend's share of --minutes is over", flush=True)
    return late


def print_exactness(options):
    """Prints the device, and the largest difference of a statistic and of a weight."""
    import numpy as np
    from timing import machine

    print(f"## {backend_here()}\n\n{machine()}\n{device_name()}", flush=True)
    use_full_precision(backend_here())
    recorded, weights = trained_for_two_steps(options.small, record=True)
    on_cpu, _ = trained_for_two_steps(options.small, record=True, device="cpu")
    (_, plain), (_, again) = (trained_for_two_steps(options.small, record=False) for _ in range(2))
    assert_same_rows(recorded, on_cpu)
    values, expected = recorded.value.to_numpy(float), on_cpu.value.to_numpy(float)
    missing = np.isnan(values) != np.isnan(expected)
    difference = np.abs(values - expected) / np.maximum(np.abs(expected), 1e-6)
    near_zero = recorded.statistic.str.contains("cosine|share").to_numpy()
    difference = np.where(near_zero, np.abs(values - expected), difference)
    worst = int(np.nanargmax(difference))
    verdict = "agree" if difference[worst] < CLOSE and not missing.any() else "DIFFER"
    print(
        f"\nexactness: {np.sum(~np.isnan(expected))} statistics of 2 steps in float32 {verdict} "
        f"with those of the CPU; the largest difference is {difference[worst]:.1e} "
        f"({recorded.statistic.iloc[worst]} of {recorded.block.iloc[worst]}); "
        f"{missing.sum()} are missing on one of both"
    )
    print_equality("with and without a recorder", weights, plain)
    print_equality("of two runs without", again, plain)


def print_equality(of_what, weights, others):
    """Prints how many weights of two runs are the same."""
    import numpy as np

    pairs = list(zip(weights, others, strict=True))
    equal = sum(np.array_equal(own, other) for own, other in pairs)
    largest = max(float(np.max(np.abs(own - other))) for own, other in pairs)
    print(
        f"weights {of_what}: {equal} of {len(pairs)} bit-identical, largest difference "
        f"{largest:.1e}",
        flush=True,
    )


def use_full_precision(backend):
    """Has float32 products computed in float32, deterministically where that can be chosen."""
    if backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
    else:
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


def two_blocks(classes, image_size):
    """Returns the smallest ResNet with an identity and a projection."""
    import keras

    from reszoo import ResidualBlock
    from reszoo.layers import BasicBranch, ProjectionShortcut

    return keras.Sequential(
        [
            keras.Input((image_size, image_size, 3)),
            keras.layers.Conv2D(4, 3, padding="same"),
            ResidualBlock(BasicBranch(4), activation="relu", name="identity"),
            ResidualBlock(
                BasicBranch(8, strides=2),
                ProjectionShortcut(8, strides=2),
                "relu",
                name="projection",
            ),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, dtype="float32"),
        ]
    )


def trained_for_two_steps(small, record, device=None):
    """Trains a small ResNet for two steps; returns its recorded values and its weights."""
    import contextlib

    import keras
    import numpy as np

    import reszoo

    random = np.random.default_rng(0)
    images = random.normal(size=(16, 16, 16, 3)).astype("float32")
    labels = random.integers(0, 10, 16)
    log_dir = tempfile.mkdtemp()
    with keras.device(device) if device else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        model = two_blocks(10, 16) if small else reszoo.models.ResNet18(10, (16, 16, 3), "cifar", 8)
        compile_model(model)
        recorders = [reszoo.GradientRecorder(log_dir, 1)] if record else []
        model.fit(images, labels, 8, shuffle=False, verbose=0, callbacks=recorders)
        weights = model.get_weights()
    return (reszoo.gradients.load(log_dir) if record else None), weights


def assert_same_rows(table, other):
    """Refuses to compare values of different steps, blocks or statistics."""
    columns = ["step", "block", "statistic"]
    if not table[columns].equals(other[columns]):
        raise ValueError("The device and the CPU did not record the same statistics.")


def compile_model(model):
    """Compiles a model for training."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)


def sizes(options):
    """Returns the image size and the batch."""
    return (32, 4) if options.small else (224, 256)


def new_fit(options, record):
    """Returns a function that runs one training step as `fit` does, to its end."""
    import keras
    import numpy as np

    import reszoo

    image_size, batch = sizes(options)
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    if options.small:
        model = two_blocks(CLASSES, image_size)
    else:
        model = reszoo.models.ResNet50(CLASSES, (image_size, image_size, 3))
    compile_model(model)
    recorders = [reszoo.GradientRecorder(tempfile.mkdtemp(), 1)] if record else []
    callbacks = keras.callbacks.CallbackList(recorders, model=model)
    callbacks.on_train_begin()
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, image_size, image_size, 3), "float32")
    # On the device, so that no transfer is measured.
    x, y = map(keras.ops.convert_to_tensor, (images, random.integers(0, CLASSES, batch)))

    def step():
        callbacks.on_train_batch_begin(0)
        loss = model.train_on_batch(x, y)
        callbacks.on_train_batch_end(0)
        return loss

    return step


VARIANTS = {
    "plain": functools.partial(new_fit, record=False),
    "plain again": functools.partial(new_fit, record=False),
    "every step recorded": functools.partial(new_fit, record=True),
}


def print_cost_and_memory(options):
    """Prints the time of a recorded step and of a plain one, and the peak memory."""
    print_cost(options)
    print_memory(options)


def print_cost(options):
    """Prints the time of a recorded step and of a plain one."""
    from timing import interleaved, print_table, seconds_of

    if is_late(options, "cost"):
        return
    runs = {name: new(options) for name, new in VARIANTS.items()}
    first = {name: f"{seconds_of(run)[1]:.1f}" for name, run in runs.items()}
    seconds = interleaved(runs, options.rounds)
    print_sizes(options, "two blocks" if options.small else "ResNet-50")
    columns = {"first step, s": first, "images a second": rates(options, seconds)}
    print_table("a step", seconds, dict.fromkeys(runs, "plain"), columns=columns)


def print_sizes(options, network):
    """Prints what is trained."""
    image_size, batch = sizes(options)
    size = f"{image_size}x{image_size}, batch {batch}"
    print(f"\n{network}, {size}, bfloat16, {options.rounds} rounds\n")


def rates(options, seconds):
    """Returns the images a second of each name, by the median of the wall time."""
    import numpy as np

    batch = sizes(options)[-1]
    return {name: f"{batch / np.median(rows[:, 1]):.0f}" for name, rows in seconds.items()}


def print_memory(options):
    """Prints the peak memory of the device for a plain and a recorded training."""
    if peak_bytes(backend_here()) is None:
        print("\npeak memory: not reported by this device")
        return
    for name in ("plain", "every step recorded"):
        if is_late(options, f"memory, {name}"):
            continue
        minutes = (options.end - time.monotonic()) / 60
        finished = run_here(
            options,
            backend_here(),
            minutes,
            f"--memory_of={name}",
            stdout=subprocess.PIPE,
            text=True,
        )
        if finished.returncode:
            sys.exit(f"The memory of {name!r} could not be measured; the error is above.")
        print(f"\npeak memory of the device, {name}: {finished.stdout.split(chr(10))[-2]}")


def peak_memory_here(options):
    """Returns the device's peak memory in this process after three steps, in words."""
    run = VARIANTS[options.memory_of](options)
    for _ in range(3):
        run()
    return f"{(peak_bytes(backend_here()) or 0) / 2**20:.0f} MiB"


def peak_bytes(backend):
    """Returns the most bytes of the device that were in use at once; `None` if it does not say."""
    if backend == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def print_torchvision(options):
    """Prints the training step of torchvision's model, compiled and in channels-last."""
    from peers import import_torchvision
    from timing import interleaved, print_table

    torchvision = import_torchvision()
    if torchvision is None:
        print("\ntorchvision: left out, since it is not installed")
        return
    if is_late(options, "torchvision"):
        return
    compiles = not options.small or options.compile
    runs = {"torchvision, channels-last": torchvision_step(options, torchvision, False)}
    if compiles:
        runs["the same by torch.compile"] = torchvision_step(options, torchvision, True)
    else:
        print("\ntorch.compile: left out, since --small without --compile does not compile")
    seconds = interleaved(runs, options.rounds, warmup=3)
    print_sizes(options, "torchvision's ResNet-18" if options.small else "torchvision's ResNet-50")
    baselines = dict.fromkeys(runs, "torchvision, channels-last")
    print_table("a step", seconds, baselines, columns={"images a second": rates(options, seconds)})
    if peak_bytes("torch") is None:
        return
    for name, run in runs.items():
        print(f"\npeak memory of a step of {name}: {own_peak(run) / 2**20:.0f} MiB")


def own_peak(run):
    """Returns the peak of PyTorch's memory in one more step, with all models that are there."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated()


def torchvision_step(options, torchvision, compiles):
    """Returns a training step of torchvision's model in bfloat16 and channels-last."""
    import torch

    image_size, batch = sizes(options)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    new_model = torchvision.models.resnet18 if options.small else torchvision.models.resnet50
    model = new_model(num_classes=CLASSES).to(kind, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, 3, image_size, image_size, device=kind)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,), device=kind)

    def loss_of(x, y):
        with torch.autocast(kind, torch.bfloat16):
            logits = model(x)
        return torch.nn.functional.cross_entropy(logits.float(), y)

    loss_of = torch.compile(loss_of) if compiles else loss_of

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


PARTS = {
    "exactness": print_exactness,
    "cost": print_cost_and_memory,
    "torchvision": print_torchvision,
}

if __name__ == "__main__":
    main()
