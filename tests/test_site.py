"""The site of the documents: it builds, and its formulas are drawn without a network."""

import contextlib
import html.parser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reszoo.studies.live_page import SHORTCUTS, live_table
from tests.integration.pages import browser, require_browser

ROOT = Path(__file__).parents[1]
DOCS, SITE = ROOT / "docs", ROOT / "build" / "site"

pytest.importorskip("zensical")
pytest.importorskip("mkdocstrings_handlers.python")
markdown = pytest.importorskip("markdown")


@pytest.fixture(scope="module")
def site():
    """The pages of the site by their paths in it."""
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.relative_to(SITE).as_posix(): path.read_text() for path in SITE.rglob("*.html")}


def test_the_site_builds_without_a_warning(site):
    pages = [page for path, page in site.items() if path.startswith("api/")]
    assert len(pages) == 6
    assert any("Adds a shortcut to a branch" in page for page in pages)
    # A function of the name of its module would give the module.
    assert not any("doc-module-name" in page for page in pages)


class Prose(html.parser.HTMLParser):
    """Text of a page outside code and scripts."""

    def __init__(self, page):
        super().__init__()
        self.text, self._within = [], 0
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._within += tag in ("code", "pre", "script", "style")

    def handle_endtag(self, tag):
        self._within -= tag in ("code", "pre", "script", "style")

    def handle_data(self, data):
        if not self._within:
            self.text.append(data)


def test_no_formula_of_the_site_is_shown_as_its_source(site):
    assert "<math" in site["statistics.html"]
    for path, page in site.items():
        if "md-content" in page:
            left = re.findall(r".{0,30}[$\\].{0,30}", "".join(Prose(page).text))
            assert not left, (path, left)


def test_the_site_has_the_changes_and_the_rules_for_contributing(site):
    assert "Unreleased" in site["changelog.html"]
    assert 'href="architecture.html"' in site["CONTRIBUTING.html"]


def test_every_picture_and_frame_of_the_site_is_there(site):
    # Those in HTML of the documents, which the generator does not check.
    for path, page in site.items():
        for found in re.findall(r'(?:src|srcset)="([^":#?/][^":#?]*)', page):
            assert (SITE / path).parent.joinpath(found).exists(), (path, found)


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("motion", "scheme", "shown"),
    [
        ("no-preference", "light", "moving_bus.webp#only-light"),
        ("no-preference", "dark", "moving_bus_dark.webp#only-dark"),
        ("reduce", "light", "moving_bus.png"),
    ],
)
def test_the_home_page_begins_with_the_moving_bus_or_a_still_of_it(motion, scheme, shown):
    with opened("index.html", reduced_motion=motion, color_scheme=scheme) as page:
        pictures = page.locator(".moving img").all()
        [picture] = [each for each in pictures if each.is_visible()]
        [other] = [each for each in pictures if not each.is_visible()]
        if scheme == "light":  # In the dark the scheme is known only after the first picture.
            assert other.evaluate("image => image.naturalWidth") == 0  # it is not fetched
        assert picture.evaluate("image => image.currentSrc").endswith(shown)
        box = picture.bounding_box()
        assert box["y"] + box["height"] < 800
        picture.click()
        assert page.url.endswith("live.html")


def test_only_documents_are_published(site):
    published = {path.suffix for path in SITE.rglob("*") if path.is_file()}
    assert site
    assert not published & {".py", ".pyc"}


def test_an_identifier_in_a_table_is_not_broken_across_lines(site):
    assert "site.css" in site["statistics.html"]
    with opened("statistics.html") as page:
        lines = page.locator("td:first-child code").evaluate_all(
            "cells => cells.map(cell => cell.getClientRects().length)"
        )
    assert len(lines) > 30
    assert set(lines) == {1}


def test_no_code_in_a_table_of_the_site_has_a_backslash(site):
    cells = re.findall(r"<td.*?</td>", site["statistics.html"], flags=re.DOTALL)
    assert len(cells) > 100
    assert not [cell for cell in cells if "\\" in cell]


@pytest.fixture
def to_html(monkeypatch):
    """Converts Markdown as the site's generator does."""
    monkeypatch.syspath_prepend(ROOT / "site_extensions")
    extensions = re.search(
        r"^markdown_extensions:\n((?:  .*\n)+)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE
    )[1]
    names = re.findall(r"^  - ([\w.]+)", extensions, re.MULTILINE)
    assert names[-1] == "formulas_as_mathml"
    return lambda text: markdown.markdown(text, extensions=names)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("so $x$ is", "<p>so MATH is</p>"),
        ("**so $x_1$ and $y_1$**", "<p><strong>so MATH and MATH</strong></p>"),
        ("$a < b * c * d$, $\\|g\\|$", "<p>MATH, MATH</p>"),
        ("# Of $x$", '<h1 id="of-x">Of MATH</h1>'),
        ("- so\n\n    $$\n    x\n    $$", "<ul> <li> <p>so</p> BLOCK </li> </ul>"),
        ("> $$x$$", "<blockquote> BLOCK </blockquote>"),
        ("$$\n\\begin{aligned}a &= b < c \\\\ d &\\lt e\\end{aligned}\n$$", "BLOCK"),
        ("`$x$` for \\$5", "<p><code>$x$</code> for $5</p>"),
        ("``` sh\necho $x $$y\n```", "CODE"),
        ("a|b\n-|-\n$\\lVert g \\rVert$|`$x`", "<tr> <td>MATH</td> <td><code>$x</code></td> </tr>"),
    ],
)
def test_a_formula_is_mathml_wherever_it_stands_and_code_is_not(to_html, text, drawn):
    made = to_html(text)
    made = re.sub(r'<span class="arithmatex"><math>.*?</math></span>', "MATH", made)
    made = re.sub(r'<div class="arithmatex"><math display="block">.*?</math></div>', "BLOCK", made)
    made = re.sub(r'<div class="highlight">.*</div>', "CODE", made, flags=re.DOTALL)
    assert drawn in re.sub(r"\s+", " ", made)


def test_a_formula_has_its_letters_fractions_and_characters(to_html):
    made = to_html("$$\n\\frac{\\partial L}{\\partial x} < \\lVert g_\\text{skip} \\rVert\n$$")
    for part in ("<mfrac>", "<mi>∂</mi><mi>L</mi>", "&lt;", "‖", "<mtext>skip</mtext>"):
        assert part in made


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$\\foo$", r"must be LaTeX, but \$\\foo\$ has at 0: Unknown command"),
        ("$\\frac{a$", "has at 7: Expected closing"),
        ("so\n$$x$$", "a paragraph of its own"),
        ("$$\nx\n\ny\n$$", "a paragraph of its own"),
        ("a|b\n-|-\n$|x|$|1", r"no \| in a table"),
        ("costs $5 and $6", r"written \\\$ or as code, but got 'costs \$5 and \$6'"),
    ],
)
def test_a_formula_that_cannot_be_drawn_is_an_error(to_html, text, reason):
    with pytest.raises(ValueError, match=reason):
        to_html(text)


@contextlib.contextmanager
def opened(page_of_the_site, size=(1280, 800), **options):
    """A page of the site in a browser that reaches no network."""
    with browser(require_browser()) as chromium:
        page = chromium.new_page(
            viewport=dict(zip(("width", "height"), size, strict=True)), **options
        )
        refused = []
        page.route(
            re.compile("^https?:"), lambda route: (refused.append(route.request.url), route.abort())
        )
        page.goto((SITE / page_of_the_site).as_uri())
        yield page
        assert not refused


@pytest.mark.usefixtures("site")
def test_a_browser_draws_the_formulas_without_a_network():
    with opened("statistics.html") as page:
        fraction = page.locator("math[display=block] mfrac").first.bounding_box()
        letter = page.locator("math:not([display]) mi").first.bounding_box()
    assert fraction["height"] > 1.5 * letter["height"] > 10


def test_the_table_of_the_live_page_is_that_of_its_runs():
    assert live_table(DOCS / "live/gradient_flow.html") in (DOCS / "live.md").read_text()


@pytest.mark.usefixtures("site")
def test_a_visitor_plays_three_trainings_in_the_site():
    with opened("live.html") as page:
        live = page.frame_locator("iframe")
        live.locator(".gf[data-step]").wait_for()
        chosen = live.locator('.gf-chip[aria-pressed="true"]').all_text_contents()
        assert chosen == list(SHORTCUTS)
        assert live.locator(".gf-block").count() == 3 * 27
        step = live.locator(".gf").get_attribute("data-step")
        live.get_by_role("button", name="Play").click()
        # Any other step: on a busy machine the page is past the next one before it is looked at.
        live.locator(f'.gf:not([data-step="{step}"])').wait_for()
        assert page.url.endswith("live.html")
