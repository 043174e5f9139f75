"""Descriptions of a run's data, by which its model can be used without the data."""

import dataclasses
from pathlib import Path

import tensorflow as tf
from absl import logging

from reszoo.data import Crop, Pipeline
from reszoo.data.contents import Contents, changes, contents_from, counted, trained_on
from reszoo.data.pipeline import prepared
from reszoo.files import StoredPath, write_whole
from reszoo.json_files import OptionalField, read_json, to_json
from reszoo.training.workdir import DATA_FILE

_SHAPE = {
    "image_shape": [int, int, int],
    "class_names": [str],
    OptionalField("digest"): str,
    OptionalField("contents"): (
        {
            "class_names": [str],
            "counts": {str: [int]},
            "train": {str: str},
            "test": {str: str},
        },
        None,
    ),
}
_CURE = (
    "Delete it to have it made again: from the data set, the next time that the run is started, "
    "tested or asked."
)


@dataclasses.dataclass(frozen=True)
class DataDescription:
    """Description of the data of a run: shape of its images, names of its classes.

    Args:
        image_shape: `(height, width, channels)` of the test images, in pixels.
        class_names: Names of the classes, in the order of the logits.
        contents: Names, sizes and hashes of the data; `None` if not known, as for runs of earlier
            versions.

    Example:

    >>> DataDescription((8, 8, 1), ("cat", "dog")).image(tf.ones((16, 12, 3))).shape
    TensorShape([8, 8, 1])
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    contents: Contents | None = None

    def image(self, image: tf.Tensor, crop: Crop | None = None) -> tf.Tensor:
        """Returns an image prepared as the test images of the run were.

        Args:
            image: `(height, width, 3)`, of any size.
            crop: The crop of the run; the whole image is used if `None`.
        """
        if self.image_shape[-1] == 1:
            image = tf.image.rgb_to_grayscale(image)
        return prepared(image, self.image_shape, crop)

    def write(self, workdir: Path | StoredPath) -> None:
        """Writes the description to a work directory.

        The contents are left out if a run of an earlier version has written none there.
        """
        before = read_data_description(workdir)
        if before and not before.contents:
            return
        fields = dataclasses.asdict(self)
        if self.contents:
            fields["digest"] = self.contents.digest
        write_whole(workdir / DATA_FILE, to_json(fields, indent=1) + "\n")


def describe_data(pipeline: Pipeline) -> DataDescription:
    """Returns the description of a pipeline's data."""
    source = pipeline.source
    return DataDescription(pipeline.test_image_shape, tuple(source.class_names), source.contents)


def check_same_data(workdir: Path | StoredPath, now: DataDescription) -> None:
    """Checks that the data of a resumed run are those that it was started with.

    Args:
        workdir: The work directory, which has the earlier description.
        now: Description of the present data.

    Raises:
        ValueError: If they differ; the text says what has changed.
    """
    contents = now.contents
    before = _contents_before(workdir, contents)
    if contents and before and before.digest != contents.digest:
        raise ValueError(
            f"{workdir} holds a run of other data. What has changed: {_changes(before, contents)}. "
            "Give another workdir, or the data as they were."
        )


def check_not_trained_on(workdir: Path | StoredPath, now: DataDescription) -> None:
    """Warns of changes in the data since training, and refuses test images trained on.

    Args:
        workdir: The work directory, which has the earlier description.
        now: Description of the present data.

    Raises:
        ValueError: If a test image was trained on.
    """
    contents = now.contents
    before = _contents_before(workdir, contents)
    if not contents or not before or before.digest == contents.digest:
        return
    logging.warning(
        "The data have changed since the run in %s was begun: %s.",
        workdir,
        _changes(before, contents),
    )
    seen = trained_on(before, contents)
    if seen:
        raise ValueError(
            f"Of what would be tested, {counted(seen, 'were trained on')} in {workdir}, so that "
            "the test would say nothing of new images. Give the data as they were, or take these "
            "out of the test."
        )


def _contents_before(workdir: Path | StoredPath, now: Contents | None) -> Contents | None:
    """Returns the contents that a run was started with, if comparable with the present ones."""
    before = read_data_description(workdir)
    if not before or not now:
        return None
    if not before.contents:
        otherwise = (
            " Folders without train and test were split otherwise then, so that the run was "
            "trained on some of what is tested now; only a new run has a test that counts."
        )
        logging.warning(
            "%s is of an earlier version and does not say which data the run was begun with, so "
            "that they cannot be compared.%s",
            workdir / DATA_FILE,
            otherwise if _is_split_by_name(now) else "",
        )
    return before.contents


def _is_split_by_name(contents: Contents) -> bool:
    """Returns whether training and test images share folders, one for each class."""
    names = [*contents.train, *contents.test]
    return all("/" in name and name.split("/")[0] in contents.class_names for name in names)


def _changes(before: Contents, now: Contents) -> str:
    return "; ".join(changes(before, now))


def read_data_description(workdir: Path | StoredPath) -> DataDescription | None:
    """Returns the description in a work directory; `None` if there is none.

    Raises:
        ValueError: If the file is broken.
    """
    path = workdir / DATA_FILE
    if not path.exists():
        return None
    fields = read_json(path, _SHAPE, _CURE)
    shape, names = tuple(fields["image_shape"]), tuple(fields["class_names"])
    if min(shape) < 1 or shape[-1] not in (1, 3):
        raise ValueError(
            f"{path} cannot be read: 'image_shape' must be a height, a width and 1 or 3 channels, "
            f"but is {list(shape)}. {_CURE}"
        )
    contents = fields.get("contents") and contents_from(fields["contents"])
    if contents and contents.digest != fields.get("digest"):
        raise ValueError(f"{path} cannot be read: 'digest' is not that of 'contents'. {_CURE}")
    return DataDescription(shape, names, contents)
