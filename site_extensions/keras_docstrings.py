"""Lets the site's generator read docstrings in the order that Keras has.

Its parser knows Google's sections; those that Keras adds become text with a title.
"""

import re
import textwrap

import griffe

# Named fields, as in `Args`.
FIELDS = re.compile(r"^(\w+): ", flags=re.MULTILINE)
ADDED = re.compile(
    r"^(Call arguments|Input shape|Output shape|Reference):\n((?:    .*\n|\n(?=    ))+)",
    flags=re.MULTILINE,
)
EXAMPLE = re.compile(r"^Example:\n\n(.*)", flags=re.MULTILINE | re.DOTALL)


def in_google_style(docstring: str) -> str:
    """Returns a docstring whose sections are all Google's.

    Args:
        docstring: The docstring, without its indentation.
    """
    text = ADDED.sub(_as_text, docstring + "\n")
    return EXAMPLE.sub(lambda found: "Examples:\n" + textwrap.indent(found[1], "    "), text)


def _as_text(found):
    title, body = found[1], textwrap.dedent(found[2])
    if title == "Call arguments":
        body = FIELDS.sub(r"- **`\1`**: ", body)
    return f"**{title}:**\n\n{body}"


class KerasDocstrings(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Rewrites the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = in_google_style(obj.docstring.value)
