"""Names in Matplotlib figures, drawn as plain text."""

from typing import Any

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, get_font

from reszoo.names import clipped, escaped, printable

# A dollar sign in a name must not begin a formula.
AS_TEXT: dict[str, Any] = {"parse_math": False, "usetex": False}


def drawable(name: str, length: int) -> str:
    r"""Returns a name that the font of a figure can show.

    A character without a glyph becomes an escape, such as `\u4f60`, so that different names stay
    different. For other scripts set `font.family` in a `matplotlibrc` to a font that has them.

    Args:
        name: The name of a class, a block or a run.
        length: The largest number of characters; a longer name is clipped.

    Example:

    >>> drawable("cat", 10), drawable("\u4f60", 10)
    ('cat', '\\u4f60')
    """
    families = matplotlib.rcParams["font.family"]
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in families]
    shown = [
        each if any(font.get_char_index(ord(each)) for font in fonts) else escaped(each)
        for each in printable(name)
    ]
    return clipped("".join(shown), length)
