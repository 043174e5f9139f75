"""Report of what a data set leaves out: by reason, with counts and names."""

from absl import logging

from reszoo.data.contents import counted

# What operating systems, editors and archives put beside files, unseen.
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
    """Collects what is left out of a data set, and says it once.

    Args:
        where: The data set.

    Example:

    >>> left_out = LeftOut("photos")
    >>> left_out.add("hidden", "cat/.DS_Store")
    >>> left_out.sentences()
    ['Left out of photos: 1 hidden (cat/.DS_Store).']
    """

    def __init__(self, where: str):
        self.where = where
        self._names: dict[str, dict[str, None]] = {}

    def add(self, reason: str, name: str) -> None:
        """Notes that something is left out.

        Args:
            reason: Why, in words that follow a number.
            name: Its name.
        """
        self._names.setdefault(reason, {})[name] = None

    def sentences(self) -> list[str]:
        """Returns a sentence for each reason, with a count and the first names."""
        return [
            f"Left out of {self.where}: {counted(names, reason)}."
            for reason, names in self._names.items()
        ]

    def report(self) -> None:
        """Says what was left out since it was last asked to."""
        for sentence in self.sentences():
            logging.warning("%s", sentence)
        self._names.clear()


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is not meant to be seen.

    Args:
        name: Its name, without the folder it is in.

    Example:

    >>> is_hidden(".ipynb_checkpoints"), is_hidden("__MACOSX"), is_hidden("cat.png")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _HIDDEN
