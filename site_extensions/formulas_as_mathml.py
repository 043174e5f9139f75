"""Formulas of the site as MathML, which every browser draws without a script or a network.

A Markdown extension. `pymdownx.arithmatex` finds the formulas, `$...$` and `$$...$$` as on GitHub;
what it finds becomes MathML when the site is built.
"""

import html
from xml.etree import ElementTree

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from math_core import LatexError, LatexToMathML
from pymdownx.arithmatex import ArithmatexExtension

# After the formulas of running text are found (20), before the tree is written (10).
PRIORITY = 15


class FormulasAsMathML(Extension):
    """Finds the formulas of a document and draws them."""

    def extendMarkdown(self, md: Markdown) -> None:
        finding = ArithmatexExtension(
            generic=True, tex_inline_wrap=["", ""], tex_block_wrap=["", ""]
        )
        finding.extendMarkdown(md)
        md.treeprocessors.register(_Drawing(md), "formulas_as_mathml", PRIORITY)


class _Drawing(Treeprocessor):
    def run(self, root: ElementTree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex":
                mathml = to_mathml(_latex(element), is_block=element.tag == "div")
                element.text = self.md.htmlStash.store(mathml)
            elif element.tag not in ("code", "pre"):
                _refuse_lone_dollars(element.text or "")
            _refuse_lone_dollars(element.tail or "")


def to_mathml(latex: str, is_block: bool) -> str:
    """Returns a formula as MathML.

    Args:
        latex: The formula, without its dollars.
        is_block: Whether it is a paragraph of its own.

    Raises:
        ValueError: If the formula is no LaTeX, or has a command that MathML has nothing for.
    """
    converter = LatexToMathML(fancy_error=False)
    try:
        return converter.convert_with_local_state(latex, displaystyle=is_block)
    except LatexError as error:
        raise ValueError(f"The formula must be LaTeX, but ${latex}$ has at {error}") from error


def _latex(element: ElementTree.Element) -> str:
    # Arithmatex escapes the formulas that are paragraphs, and those alone.
    text = html.unescape(element.text) if element.tag == "div" else element.text
    return text.strip()


def _refuse_lone_dollars(text: str) -> None:
    if "$" in text:
        raise ValueError(
            "Dollars must enclose a formula ($$ in a paragraph of its own, no | in a table), or be "
            rf"written \$ or as code, but got {text.strip()!r}."
        )


def makeExtension(**options: object) -> Extension:
    """Returns the extension, by the name that Markdown looks for."""
    return FormulasAsMathML(**options)
