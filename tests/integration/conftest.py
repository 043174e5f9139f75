"""Pages in a browser, which fail the test if anything went wrong on them."""

import pytest

from tests.integration.pages import Page, browser, require_browser


@pytest.fixture(scope="module")
def chromium():
    with browser(require_browser()) as chromium:
        yield chromium


@pytest.fixture
def open_page(chromium):
    contexts, pages = [], []

    def open_tab(width=1280, height=800, **settings):
        context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
        context.set_default_timeout(20_000)
        contexts.append(context)
        pages.append(Page(context.new_page()))
        return pages[-1]

    yield open_tab
    errors = [error for page in pages for error in page.errors]
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page):
    return open_page()
