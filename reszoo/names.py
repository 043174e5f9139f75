"""Names of classes, blocks and runs, made safe for terminals, tables and Markdown."""

import unicodedata

# Zero-width characters that join letters; all others of their kind reorder or hide text.
_JOINERS = "\u200c\u200d"
_MARKDOWN = set("\\`*_{}[]()<>#+-!|~&")


def printable(name: str) -> str:
    r"""Returns a name on one line, with an escape for each control or format character.

    A terminal obeys such characters, and a line break would begin another row of a table.

    Args:
        name: The name of a class, a block or a run.

    Example:

    >>> printable("cat"), printable("a\nb")
    ('cat', 'a\\nb')
    """
    return "".join(map(_visible, name))


def clipped(name: str, length: int) -> str:
    """Returns a name, shortened with an ellipsis if it is too long.

    Args:
        name: The name of a class, a block or a run.
        length: The largest number of characters, the ellipsis included.

    Example:

    >>> clipped("labrador", 4)
    'lab…'
    """
    return name if len(name) <= length else f"{name[: length - 1]}…"


def escaped_markdown(text: str) -> str:
    r"""Returns Markdown that is rendered as the given text.

    Args:
        text: Plain text, on one line.

    Example:

    >>> escaped_markdown("__init__")
    '\\_\\_init\\_\\_'
    """
    return "".join("\\" + each if each in _MARKDOWN else each for each in text)


def _visible(character: str) -> str:
    kind = unicodedata.category(character)
    is_text = kind not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _JOINERS
    return character if is_text else escaped(character)


def escaped(character: str) -> str:
    r"""Returns the escape of a character in a Python string, such as `\u4f60`.

    Args:
        character: A string of length 1.
    """
    return character.encode("unicode_escape").decode()
