"""A path on an object store does what one on a disk does."""

import errno
import os

import pytest

from reszoo.files import StoredPath, append_text, as_path, copy_whole, write_whole


@pytest.fixture(params=["disk", "store"])
def directory(request, tmp_path):
    # TensorFlow's file system in memory is reached as gs:// is.
    path = tmp_path if request.param == "disk" else StoredPath(f"ram:/{tmp_path}")
    path.mkdir(parents=True, exist_ok=True)
    return path


def test_what_is_written_is_read(directory):
    path = directory / "a.txt"
    assert not path.exists()
    path.write_text("ä\n")
    assert path.exists()
    assert (path.read_text(), path.read_bytes()) == ("ä\n", "ä\n".encode())


def test_a_text_is_appended(directory):
    path = directory / "a.txt"
    append_text(path, "one\n")
    append_text(path, "two\n")
    assert path.read_text() == "one\ntwo\n"


def test_files_are_found_by_a_pattern(directory):
    for name in ("step-2.npz", "step-1.npz", "best.npz"):
        (directory / name).write_bytes(b"")
    assert [path.name for path in sorted(directory.glob("step-*"))] == ["step-1.npz", "step-2.npz"]
    assert list((directory / "missing").glob("*")) == []


def test_a_deleted_file_is_gone(directory):
    path = directory / "a.txt"
    path.write_bytes(b"")
    path.unlink()
    assert list(directory.glob("*")) == []


def test_a_file_that_is_missing_is_named(directory):
    path = directory / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        path.read_bytes()
    assert (caught.value.errno, str(caught.value.filename)) == (errno.ENOENT, str(path))


def test_a_path_is_that_of_its_file_system(tmp_path):
    assert as_path(str(tmp_path)) == tmp_path
    assert as_path("gs://bucket/run/") == StoredPath("gs://bucket/run")
    assert as_path(as_path("gs://bucket/run")) == StoredPath("gs://bucket/run")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "before"
    write_whole(path, "after")
    assert path.read_text() == "after"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_copy_is_whole_and_does_not_write_through_a_link_that_was_left(tmp_path):
    first, second, target = (tmp_path / name for name in ("first", "second", "best.npz"))
    first.write_bytes(b"first")
    second.write_bytes(b"second")
    os.link(first, tmp_path / "best.partial.npz")  # as one is that a kill has left
    copy_whole(second, target)
    assert target.read_bytes() == b"second"
    assert first.read_bytes() == b"first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", "first", "second"]
