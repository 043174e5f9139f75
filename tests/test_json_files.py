"""A broken file of JSON is one sentence that names it; one that is whole is read as it is."""

import json
import math
import os

import pytest

from reszoo import json_files
from reszoo.json_files import (
    NUMBER_OR_NULL,
    OptionalField,
    parse_json,
    read_json,
    read_json_lines,
    to_json,
)

SHAPE = {"epoch": int, "loss": NUMBER_OR_NULL, OptionalField("names"): [str]}
GOOD = '{"epoch": 1, "loss": 0.5}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (GOOD[:10].encode(), "in column"),
        (b'{"epoch": 1,\n "loss": }', "in line 2, column 10"),
        (b'{"epoch": 1, "loss": "\xff"}', "its byte 23 is not UTF-8"),
        (GOOD.encode("utf-16"), "its byte 1 is not UTF-8"),
        (b"\0" * 30, "in column 1"),
        (b"[1]", "it must be an object, but is [1]"),
        (b"null", "it must be an object, but is None"),
        (b'{"loss": 0.5}', "it has no 'epoch'"),
        (b'{"epoch": "1", "loss": 0.5}', "'epoch' must be a whole number, but is '1'"),
        (b'{"epoch": true, "loss": 0.5}', "'epoch' must be a whole number, but is True"),
        (b'{"epoch": 1.5, "loss": 0.5}', "'epoch' must be a whole number, but is 1.5"),
        (b'{"epoch": NaN, "loss": 0.5}', "'epoch' must be a whole number, but is nan"),
        (b'{"epoch": 1, "loss": "0.5"}', "'loss' must be a number or null, but is '0.5'"),
        (b'{"epoch": 1, "loss": 1, "names": "ab"}', "'names' must be a list, but is 'ab'"),
        (b'{"epoch": 1, "loss": 1, "names": ["a", 3]}', "'names'[1] must be a string, but is 3"),
        (b'{"epoch": 1, "epoch": 2, "loss": 1}', "it has 'epoch' twice"),
        (b"[" * 100_000, "recursion"),
        (b'{"epoch": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"epoch": 1} {"epoch": 2}', "Extra data"),
    ],
)
def test_a_broken_file_is_one_sentence_that_names_it(tmp_path, content, reason):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read") as error:
        read_json(path, SHAPE, "Mend it.")
    text = str(error.value)
    assert text.startswith(f"{path} cannot be read: ")
    assert reason in text
    assert text.endswith(". Mend it.")
    assert "\n" not in text
    assert len(text) < len(str(path)) + 250


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(ValueError, match=f"{name} cannot be read: it is not a regular file"):
            read_json(tmp_path / name, SHAPE, "Mend it.")
    with pytest.raises(ValueError, match="none cannot be read: No such file"):
        read_json(tmp_path / "none", SHAPE, "Mend it.")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    path.write_text(GOOD)

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"file\.json cannot be read: Permission denied\. Mend it"):
        read_json(path, SHAPE, "Mend it.")


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MOST_BYTES", 10)
    path = tmp_path / "file.json"
    path.write_text(GOOD)
    with pytest.raises(ValueError, match="it has 25 bytes"):
        read_json(path, SHAPE, "Mend it.")


def test_a_byte_order_mark_and_lines_of_windows_are_read(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n{GOOD}\r\n".encode())
    assert read_json_lines(path, SHAPE, "") == [json.loads(GOOD)] * 2


def test_a_last_line_cut_short_is_left_out_and_a_whole_one_is_not(tmp_path):
    path = tmp_path / "file.jsonl"
    for length in range(len(GOOD)):
        path.write_text(f"{GOOD}\n{GOOD[:length]}")
        assert read_json_lines(path, SHAPE, "") == [json.loads(GOOD)]
    path.write_text(f"{GOOD}\n{GOOD}")
    assert read_json_lines(path, SHAPE, "") == [json.loads(GOOD)] * 2
    path.write_bytes(f"{GOOD}\n{GOOD[:10]}".encode() + "ü".encode()[:1])
    assert read_json_lines(path, SHAPE, "") == [json.loads(GOOD)]
    path.write_bytes(b"")
    assert read_json_lines(path, SHAPE, "") == []


def test_a_line_within_that_is_broken_is_named_by_its_number(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_text(f"{GOOD}\n{GOOD[:10]}\n{GOOD}\n")
    with pytest.raises(ValueError, match=r"^Line 2 of .*file\.jsonl cannot be read: in column"):
        read_json_lines(path, SHAPE, "")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("[1, 2]", [int, int]),
        ("[]", [int]),
        ('{"a": 1, "b": 2}', {str: int}),
        ("null", (int, None)),
        ("3", float),
        ('{"more": 1}', {}),
        ('"x"', object),
    ],
)
def test_what_has_the_shape_is_returned(text, shape):
    assert parse_json(text, shape, "it", "") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("[1]", [int, int]),
        ("[1, 2, 3]", [int, int]),
        ('{"a": 1, "b": "2"}', {str: int}),
        ("1e999", float),
        ("NaN", float),
        ("{}", [int]),
    ],
)
def test_what_has_another_shape_is_refused(text, shape):
    with pytest.raises(ValueError, match="must"):
        parse_json(text, shape, "The text", "")


def test_what_is_written_has_no_number_that_is_not_finite():
    value = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf}, "d": None}
    assert json.loads(to_json(value)) == {"a": [None, [None, 1.5]], "b": {"c": None}, "d": None}
