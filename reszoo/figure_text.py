"""Names in Matplotlib's pictures: as text, whatever is in them."""

from typing import Any

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, get_font

from reszoo.names import clipped, escaped, printable

# A $ in a name is a dollar, and no formula begins there.
AS_TEXT: dict[str, Any] = {"parse_math": False, "usetex": False}


def drawable(name: str, length: int) -> str:
    r"""Returns a name as a picture can show it.

    What the font has no picture of is an escape, such as `\u4f60`: two names stay two. For other
    scripts set `font.family` in a `matplotlibrc` to a font that has them.

    Args:
        name: The name.
        length: How many characters it can have; a longer one is clipped.

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
