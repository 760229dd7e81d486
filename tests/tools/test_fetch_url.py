from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

import pytest

from thaud.errors import ToolError
from tools.base import Context
from tools.fetch_url import MOST_CHARACTERS, TOOL
from tools.outside import Page
from tools.web.reading import NO_CHARSETS, answer, readable

ARTICLE = (
    "<html><head><title>Bread</title><script>evil()</script></head><body><nav><a href='/menu'>Menu</a></nav><article>"
    "<h1>How bread rises</h1>"
    + "".join(
        f"<p>Yeast eats sugar and makes gas, and paragraph {n} says so at some length, for a while.</p>"
        for n in range(9)
    )
    + "<p>See <a href='/salt'>the page about salt</a> for more of it, if more is wanted by anybody.</p></article>"
    "<footer>Cookies!</footer></body></html>"
)


@dataclass
class Shelf:
    """A web of one page."""

    page: Page
    asked: list[str] = field(default_factory=list)

    def get(self, url: str, *, timeout_s: float | None = None) -> Page:
        self.asked.append(url)
        return self.page


def fetch(context: Context, body: bytes | str, kind: str = "text/html", status: int = 200, **arguments: object) -> str:
    raw = body.encode() if isinstance(body, str) else body
    shelf = Shelf(Page("https://site.org/bread", status, kind, raw))
    return TOOL.perform(TOOL.accept({"url": "https://site.org/bread", **arguments}), replace(context, web=shelf))


def test_main_text_is_read_with_its_links(context: Context) -> None:
    """Of an article the model gets its text and where its links lead, not the site's furniture or programs."""
    text = fetch(context, ARTICLE)
    assert text.startswith("[https://site.org/bread: ")
    assert "paragraph 3" in text
    assert "[the page about salt](https://site.org/salt)" in text
    assert "evil" not in text


def test_a_page_without_main_text_is_read_whole(context: Context) -> None:
    """A list of links, which is no article, is not lost."""
    text = fetch(
        context, "<title>Doors</title><ul><li><a href='/a'>First</a><li><a href='b'>Second</a></ul><style>x</style>"
    )
    assert "[First](https://site.org/a)" in text
    assert "[Second](https://site.org/b)" in text
    assert "x" not in text.replace("text", "").split("\n\n", 1)[1]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ('{"a": [1, 2]}', "application/json", '{"a": [1, 2]}'),
        ("plain <b>text</b>", "text/plain", "plain <b>text</b>"),
        ("a,b\n1,2", "text/csv; charset=utf-8", "a,b\n1,2"),
        ("ma\u00f1ana".encode("latin-1"), "text/plain; charset=iso-8859-1", "ma\u00f1ana"),
        (b"no kind", "", "no kind"),
        (b"a\xffb", "text/plain; charset=nonsense", "a\ufffdb"),
        ("ma\u00f1ana".encode("utf-16"), "text/plain; charset=utf-16", "ma\u00f1ana"),
        *((b"+2AA-\\ud800", f"text/plain; charset={name}", "+2AA-\\ud800") for name in sorted(NO_CHARSETS)),
    ],
)
def test_text_is_given_as_it_is(context: Context, body: bytes | str, kind: str, expected: str) -> None:
    """Plain text and JSON are not touched, in the character set that the server names."""
    assert fetch(context, body, kind).split("\n\n", 1)[1] == expected


@pytest.mark.parametrize(
    ("body", "kind", "named"),
    [
        (b"%PDF-1.7 ...", "text/html", "application/pdf"),
        (b"\x89PNG", "image/png", "image/png"),
        (b"PK\0\0", "", "application/octet-stream"),
        (b"x", "application/zip", "application/zip"),
    ],
)
def test_what_holds_no_text_is_refused_by_name(context: Context, body: bytes, kind: str, named: str) -> None:
    """PDFs, pictures and archives are an error that says what they are."""
    with pytest.raises(ToolError, match=f"is {named}"):
        fetch(context, body, kind)


def test_long_text_is_read_in_parts(context: Context) -> None:
    """A long page says how long it is, and its next part can be asked for."""
    text = "".join(chr(97 + n % 26) for n in range(MOST_CHARACTERS + 10))
    assert f"characters 1 to {MOST_CHARACTERS} of {MOST_CHARACTERS + 10}]" in fetch(context, text, "text/plain")
    rest = fetch(context, text, "text/plain", first_character=MOST_CHARACTERS + 1)
    assert rest.split("\n\n", 1)[1] == text[MOST_CHARACTERS:]
    assert "nothing from character 90000" in fetch(context, text, "text/plain", first_character=90_000)


def test_a_page_without_words_is_an_error(context: Context) -> None:
    """A page that only a browser could fill is no empty answer."""
    with pytest.raises(ToolError, match="has no text"):
        fetch(context, "<script>only()</script>")


@pytest.mark.parametrize("body", ["", "<html></html>", "<script>only()</script>", "<!-- -->"])
def test_what_holds_no_words_has_no_text(body: str) -> None:
    """Programs, comments and nothing at all are no text of a page."""
    assert taken_apart(body) == ""


def test_markup_that_takes_hours_ends_at_the_deadline() -> None:
    """A page of half a million open paragraphs, which its reader would chew on, ends in its child."""
    page = Page("https://site.org/bread", 200, "text/html", b"<b><i><p>t" * 200_000)
    begun = monotonic()
    with pytest.raises(ToolError, match=r"takes longer than 0\.5 s to read"):
        readable(page, 0.5)
    assert monotonic() - begun < 10


def taken_apart(body: str) -> str:
    """What the child would answer."""
    return answer({"body": body.encode().decode("latin-1"), "charset": None, "url": "https://site.org/bread"})


@pytest.mark.parametrize(
    "body",
    ["<div>" * 20_000 + "deep", "<a href='" + "x" * 100_000 + "'>long</a>", "<p>" + "&amp;" * 50_000, "\0<p>nul</p>"],
    ids=["deep", "long link", "entities", "nul"],
)
def test_hostile_markup_is_survived(body: str) -> None:
    """Markup that is made to break its reader gives text or none, never a crash."""
    assert isinstance(taken_apart(body), str)


def test_an_error_of_the_server_is_one(context: Context) -> None:
    """A page of an error is not an answer."""
    with pytest.raises(ToolError, match="answers 404"):
        fetch(context, "Not here", status=404)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("HTTPS://Site.ORG/a b", None),
        ("HTTPS://Site.ORG:443/a#b", "https://site.org/a"),
        ("https://site.org./%C3%B1?q=\u00f1", "https://site.org/%C3%B1?q=%C3%B1"),
        ("https://m\u00fcnchen.de", "https://xn--mnchen-3ya.de/"),
        ("https://site.org?q", "https://site.org/?q"),
        ("https://site.org/open/%2E%2e/%63losed%2f%20", "https://site.org/closed%2f%20"),
    ],
)
def test_what_is_approved_is_what_is_asked(url: str, asked: str | None) -> None:
    """The address is normalised before anyone sees it; one that readers would disagree about is no argument."""
    if asked is None:
        with pytest.raises(ToolError, match="fetch_url: "):
            TOOL.accept({"url": url})
        return
    values = TOOL.accept({"url": url})
    assert values == {"url": asked}
    assert TOOL.subject(values) == asked
    assert TOOL.accept(values) == values


def test_without_a_web_there_is_no_page(context: Context, tmp_path: Path) -> None:
    """Where no web is to be had the tool says so."""
    with pytest.raises(ToolError, match="cannot be asked here"):
        TOOL.perform({"url": "https://site.org"}, context)
