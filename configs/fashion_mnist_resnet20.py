"""ResNet-20 on the 70,000 images of Fashion-MNIST; needs no network once Debian's package is there.

    apt-get install dataset-fashion-mnist
    python train.py --config=configs/fashion_mnist_resnet20.py --workdir=runs/fashion_mnist

Elsewhere give `--config.data.name=idx:PATH`, a folder with the four files of the data set, or
`--config.data.name=tfds:fashion_mnist`, which downloads it.

Measured with TensorFlow 2.21 on one core of an AMD EPYC with AVX-512 (where TensorFlow turns oneDNN
on by itself), gradients recorded every 50 steps, with `--config.seed=0`, `1` and `2`: 93.19%,
92.76% and 93.30% of the 10,000 test images right, 93.08% in the mean. A run took 779 to 834 seconds
of CPU time, start-up included, and 26 to 42 minutes on a machine that other work kept busy.
Published test error of ResNet-20: 4.39% (Zhong et al. 2020, Random Erasing, without it; the table
is in the README of github.com/zhunzhong07/Random-Erasing).

The published setting, by the program there: 300 epochs of batches of 128; a rate of 0.1, divided by
10 after 150 and 225 epochs; 4 pixels of padding, crops and flips; weight decay 5e-4; projections.
Differences:

- 8 epochs are trained, with one of warmup and a rate that falls as a cosine, so that a run takes
  minutes without a GPU. For the published schedule add `--config.epochs=300
  --config.optimizer.warmup_epochs=0 --config.schedule.name=step
  --config.schedule.boundaries="(70200,105300)"`;
- mean and deviation are those of Fashion-MNIST, where the program has those of MNIST's digits;
- momentum is Nesterov's, and the last batch of an epoch, of 96 images, is left out;
- weight decay leaves biases, scales and offsets alone, and is decoupled: a penalty of 5e-4 under a
  momentum of 0.9 is a decay of 5e-4 / (1 - 0.9) = 5e-3.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "idx:/usr/share/datasets/fashion-mnist"
    config.data.shift_pixels = 4
    config.data.flip = True
    config.data.mean = (0.2860,)  # of Fashion-MNIST's training images
    config.data.std = (0.3530,)

    config.model = ConfigDict()
    config.model.name = "resnet20"
    config.model.shortcut = "projection"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-3
    config.optimizer.warmup_epochs = 1.0

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"

    config.recording = ConfigDict()
    config.recording.every_steps = 50

    config.strategy = "auto"
    config.epochs = 8
    config.batch_size = 128
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
