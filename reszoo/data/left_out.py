"""Warnings about what a data set leaves out: by reason, with counts and names."""

from absl import logging

from reszoo.data.contents import counted

# Hidden files and folders of operating systems, editors and archives.
_HIDDEN = {
    "$recycle.bin",
    "#recycle",
    "#snapshot",
    "@eadir",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "lost+found",
    "system volume information",
    "thumbs.db",
}


class LeftOut:
    """Files and records that a data set leaves out, collected for one warning per reason.

    Args:
        data_set: Its name, for the warnings.

    Example:

    >>> left_out = LeftOut("photos")
    >>> left_out.add("hidden", "cat/.DS_Store")
    >>> left_out.sentences()
    ['Left out of photos: 1 hidden (cat/.DS_Store).']
    """

    def __init__(self, data_set: str):
        self.data_set = data_set
        self._names: dict[str, dict[str, None]] = {}

    def add(self, reason: str, name: str) -> None:
        """Adds a file or record.

        Args:
            reason: A phrase that follows a count, such as "hidden files".
            name: The file or record, as the warning names it.
        """
        self._names.setdefault(reason, {})[name] = None

    def sentences(self) -> list[str]:
        """Returns a sentence for each reason, with a count and the first names."""
        return [
            f"Left out of {self.data_set}: {counted(names, reason)}."
            for reason, names in self._names.items()
        ]

    def report(self) -> None:
        """Logs the warnings, and forgets what they were about."""
        for sentence in self.sentences():
            logging.warning("%s", sentence)
        self._names.clear()


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is hidden, or one of those that systems add unasked.

    Args:
        name: The last part of its path.

    Example:

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("__MACOSX"), is_hidden("cat.png")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _HIDDEN
