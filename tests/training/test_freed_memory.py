"""Memory of freed tensors: what is set, and that TensorFlow still reads it."""

import mmap
import re
from pathlib import Path

import pytest
import tensorflow as tf

from reszoo.training.freed_memory import keep_freed_memory

KEEPS, LIMIT = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {KEEPS: "1", LIMIT: "16777216"}),
        ({KEEPS: "0"}, {KEEPS: "0"}),
        ({KEEPS: "1"}, {KEEPS: "1"}),
        ({LIMIT: "4096"}, {KEEPS: "1", LIMIT: "4096"}),
    ],
)
def test_freed_memory_is_kept_unless_the_environment_has_a_choice(given, expected):
    keep_freed_memory(given)
    assert given == expected


def test_tensorflow_reads_the_variables():
    # Versions differ in the library that has the allocators; the smaller ones come first.
    libraries = Path(tf.__file__).parent.glob("libtensorflow*")
    missing = {KEEPS.encode(), LIMIT.encode()}
    for path in sorted(libraries, key=lambda path: path.stat().st_size):
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary,
        ):
            missing -= set(re.findall(rb"TF_CPU_\w+", binary))
        if not missing:
            break
    assert not missing
