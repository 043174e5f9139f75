"""Names of classes, blocks and runs, shown as the text that they are."""

import unicodedata

# Characters that join others to one; the others without a width turn or hide what follows.
_JOINERS = "\u200c\u200d"
_MARKDOWN = set("\\`*_{}[]()<>#+-!|~&")


def printable(name: str) -> str:
    r"""Returns a name on one line, with an escape for each character that is no text.

    A terminal obeys such characters, and a line break would begin another row of a table.

    Args:
        name: The name.

    Example:

    >>> printable("cat"), printable("a\nb")
    ('cat', 'a\\nb')
    """
    return "".join(map(_visible, name))


def clipped(name: str, length: int) -> str:
    """Returns a name, or its beginning if it is long.

    Args:
        name: The name.
        length: How many characters it can have.

    Example:

    >>> clipped("labrador", 4)
    'lab…'
    """
    return name if len(name) <= length else f"{name[: length - 1]}…"


def escaped_markdown(text: str) -> str:
    r"""Returns a text that Markdown shows as it is.

    Args:
        text: The text.

    Example:

    >>> escaped_markdown("__init__")
    '\\_\\_init\\_\\_'
    """
    return "".join("\\" + each if each in _MARKDOWN else each for each in text)


def _visible(character):
    kind = unicodedata.category(character)
    is_text = kind not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _JOINERS
    return character if is_text else escaped(character)


def escaped(character: str) -> str:
    """Returns the escape of a character, as Python writes it.

    Args:
        character: The character.
    """
    return character.encode("unicode_escape").decode()
