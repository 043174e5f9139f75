import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from reszoo.data import Pipeline, load_source
from reszoo.training import evaluate_run, prepare
from reszoo.training.data_description import (
    DataDescription,
    check_not_trained_on,
    check_same_data,
    describe_data,
    read_data_description,
)
from reszoo.training.pipeline import create_pipeline
from reszoo.training.workdir import DATA_FILE


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(8):
            pixels = generator.integers(0, 256, (4, 5, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def description(photos):
    return describe_data(Pipeline(load_source(f"folder:{photos}"), batch_size=2, image_size=4))


def test_data_that_have_not_changed_are_taken_up_without_a_word(photos, tmp_path, caplog):
    description(photos).write(tmp_path)
    assert read_data_description(tmp_path) == description(photos)
    check_same_data(tmp_path, description(photos))
    check_not_trained_on(tmp_path, description(photos))
    assert not caplog.text


def test_images_that_were_added_and_removed_are_counted_and_named(photos, tmp_path, caplog):
    before = description(photos)
    before.write(tmp_path)
    for name in ("new", "other"):
        (photos / "cat" / f"{name}.png").write_bytes((photos / "cat" / "0.png").read_bytes() + b"0")
    now = description(photos)
    # No image that was there has gone from one split to the other.
    assert before.contents.train.items() <= now.contents.train.items()
    assert before.contents.test.items() <= now.contents.test.items()
    with pytest.raises(ValueError, match=r"2 added \(cat/new.png, cat/other.png\).*Give another"):
        check_same_data(tmp_path, now)
    check_not_trained_on(tmp_path, now)
    assert "2 added (cat/new.png, cat/other.png)" in caplog.text


def test_an_image_that_was_trained_on_is_not_tested(photos, tmp_path):
    before = description(photos)
    before.write(tmp_path)
    name = next(iter(before.contents.train))
    now = dataclasses.replace(
        before,
        contents=dataclasses.replace(
            before.contents,
            train={n: mark for n, mark in before.contents.train.items() if n != name},
            test=before.contents.test | {"dog/copy.png": before.contents.train[name]},
        ),
    )
    with pytest.raises(ValueError, match=r"1 were trained on \(dog/copy.png\)"):
        check_not_trained_on(tmp_path, now)


def test_a_run_of_an_earlier_version_goes_on_with_a_word(photos, tmp_path, caplog):
    now = description(photos)
    fields = {"image_shape": now.image_shape, "class_names": now.class_names}
    (tmp_path / DATA_FILE).write_text(json.dumps(fields))
    assert read_data_description(tmp_path) == DataDescription(now.image_shape, now.class_names)
    for check in (check_same_data, check_not_trained_on):
        caplog.clear()
        check(tmp_path, now)
        now.write(tmp_path)  # what is written now would not be what the run was begun with
        assert "cannot be compared. Folders without train and test were split" in caplog.text
    digits = DataDescription((8, 8, 1), ("0", "1"), load_source("digits").contents)
    caplog.clear()
    check_same_data(tmp_path, digits)
    assert caplog.text.endswith("cannot be compared.\n")


def test_contents_that_somebody_has_edited_are_refused(photos, tmp_path):
    description(photos).write(tmp_path)
    fields = json.loads((tmp_path / DATA_FILE).read_text())
    fields["contents"]["train"].popitem()
    (tmp_path / DATA_FILE).write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="'digest' is not that of 'contents'"):
        read_data_description(tmp_path)


def test_runs_and_tests_look_at_their_data(config, workdir):
    now = describe_data(create_pipeline(config))
    before = dataclasses.replace(
        now, contents=dataclasses.replace(now.contents, train=now.contents.test, test={})
    )
    before.write(workdir)
    with pytest.raises(ValueError, match=r"holds a run of other data. What has changed: train: "):
        prepare(config, workdir)
    with pytest.raises(ValueError, match=r"1 were trained on \(test images\)"):
        evaluate_run(config, workdir)
