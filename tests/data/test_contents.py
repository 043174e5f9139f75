import dataclasses
import json

import pytest

from reszoo.data import load_source
from reszoo.data.contents import Contents, changes, contents_from, counted, trained_on
from tests.data.test_folder import put
from tests.data.test_tfrecord import example, write, write_set

BEFORE = Contents(
    ("cat", "dog"),
    {"train": (2, 1), "test": (1, 0)},
    train={"cat/1.png": "9:aa", "cat/2.png": "9:bb", "dog/1.png": "9:cc"},
    test={"cat/3.png": "9:dd"},
)


def test_what_has_changed_is_counted_and_named():
    assert changes(BEFORE, BEFORE) == []
    now = dataclasses.replace(
        BEFORE,
        class_names=("cat", "cow"),
        train={"cat/1.png": "9:ee", "cow/1.png": "9:cc", "cow/2.png": "8:ff"},
    )
    assert changes(BEFORE, now) == [
        "classes: 2 (cat, cow) instead of 2 (cat, dog)",
        "train: 2 added (cow/1.png, cow/2.png), 2 removed (cat/2.png, dog/1.png), "
        "1 changed (cat/1.png)",
    ]
    assert now.digest != BEFORE.digest
    fewer = dataclasses.replace(BEFORE, counts={"train": (2, 1), "test": (0, 1)})
    assert "examples of each class" in changes(BEFORE, fewer)[0]
    assert counted([str(n) for n in range(7)], "added") == "7 added (0, 1, 2, ...)"


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"cat/1.png": "9:aa"}, ["cat/1.png"]),  # from one split to the other
        ({"dog/9.png": "9:aa"}, ["dog/9.png"]),  # under another name
        ({"cat/3.png": "9:dd", "cat/4.png": "9:zz"}, []),
    ],
)
def test_a_test_image_that_was_trained_on_is_found(test, expected):
    assert trained_on(BEFORE, dataclasses.replace(BEFORE, test=test)) == expected


def test_contents_are_the_same_after_json():
    again = contents_from(json.loads(json.dumps(dataclasses.asdict(BEFORE))))
    assert again == BEFORE
    assert again.digest == BEFORE.digest


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_built_in_data_set_has_a_digest_that_stays(name):
    source = load_source(name)
    assert len(source.digest) == 64
    assert source.digest == load_source(name).digest
    assert sum(source.contents.counts["train"]) == source.train_examples
    assert sum(source.contents.counts["test"]) == source.test_examples


def test_the_digest_of_a_folder_is_that_of_what_is_in_it_wherever_it_lies(tmp_path):
    for folder in ("here", "there"):
        for name in ("cat", "dog"):
            for value in range(4):
                put(tmp_path / folder / name, f"{value}.png", value=value)
    here, there = (load_source(f"folder:{tmp_path}/{name}") for name in ("here", "there"))
    assert here.digest == there.digest
    put(tmp_path / "there" / "cat", "3.png", value=99)
    there = load_source(f"folder:{tmp_path}/there")
    assert changes(here.contents, there.contents)[0].endswith("1 changed (cat/3.png)")
    assert sum(here.contents.counts["test"]) == len(here.contents.test) == here.test_examples


def test_the_digest_of_records_follows_images_and_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here, there = write_set(tmp_path / "here"), write_set(tmp_path / "there")
    before = load_source(f"tfrecord:{here}").contents
    assert before.digest == load_source(f"tfrecord:{there}").digest
    write(there / "train-00001-of-00002", [example(n) for n in (0, 2, 1)])
    now = load_source(f"tfrecord:{there}").contents
    assert changes(before, now) == ["train: 1 changed (train-00001-of-00002)"]
    assert before.counts == {"train": (2, 2, 2), "test": (1, 1, 1)}
