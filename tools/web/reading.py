"""A page -> text that a model can read. Owns what kinds of pages are read; refuses to fetch.

Main text by trafilatura, links kept. Where a page has no main text (lists, forms, front pages), all of its visible
text. Plain text and JSON are given as they are. Everything else is refused by its name. Markup is taken apart in a
child (tools/apart.py): it can be written so that its readers take hours.
"""

import codecs
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from thaud.errors import ToolError
from tools.apart import ask_apart
from tools.outside import Page

if TYPE_CHECKING:
    from lxml.html import HtmlElement

FEWEST_CHARACTERS = 120  # of main text; below that a page is no article
LONGEST_LINK = 300
READING_S = 20.0
HTML = frozenset({"text/html", "application/xhtml+xml"})
TEXTUAL = re.compile(r"text/.+|application/(.+\+)?(json|xml|yaml|toml|javascript|x-ndjson|jsonl|x-sh|sql)")
HIDDEN = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "head", "select", "textarea"})
# Python's own encodings, which no page has: some never end on long texts, some say nothing to errors.
NO_CHARSETS = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7"})
BLOCKS = frozenset(
    {"p", "div", "section", "article", "li", "tr", "table", "ul", "ol", "br", "hr", "pre", "blockquote", "form", "nav"}
    | {"header", "footer", "main", "aside", "dt", "dd", "h1", "h2", "h3", "h4", "h5", "h6", "title", "body"}
)


def readable(page: Page, limit_s: float = READING_S) -> str:
    """A page's text. Raises ToolError for kinds that hold none, and for markup that takes longer than `limit_s`."""
    kind = kind_of(page)
    if kind in HTML:
        return from_html(page, limit_s)
    if TEXTUAL.fullmatch(kind):
        return decoded(page)
    raise ToolError(f"{page.url} is {kind} ({len(page.body)} bytes): only pages and plain text are read")


def kind_of(page: Page) -> str:
    """The media type, lower case; where the server names none, or bytes in general, what the first bytes look like."""
    named = page.content_type.partition(";")[0].strip().lower()
    start = page.body[:1024].lstrip()
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    if named and named != "application/octet-stream":
        return named
    if start[:1] == b"<":
        return "text/html"
    return "application/octet-stream" if b"\0" in start else "text/plain"


def charset_of(page: Page) -> str | None:
    """The character set that the server names, where Python has it."""
    found = re.search(r"charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{1,40})", page.content_type)
    if found is None:
        return None
    try:
        known = codecs.lookup(found[1])
        "".encode(known.name)
    except (LookupError, UnicodeError):
        return None
    return None if known.name in NO_CHARSETS else known.name


def decoded(page: Page) -> str:
    """The bytes as text; what cannot be decoded is marked."""
    return page.body.decode(charset_of(page) or "utf-8", errors="replace")


def from_html(page: Page, limit_s: float) -> str:
    """The main text as Markdown, else all visible text. Raises ToolError for a page without words."""
    question = {"body": page.body.decode("latin-1"), "charset": charset_of(page), "url": page.url}
    try:
        text: str = ask_apart("tools.web.reading", question, limit_s)
    except TimeoutError as error:
        raise ToolError(f"{page.url} takes longer than {limit_s:g} s to read") from error
    if not text:
        raise ToolError(f"{page.url} has no text: it may need a browser to make it")
    return text


def answer(question: Mapping[str, Any]) -> str:
    """In the child: the text of a page's bytes, empty where it has none."""
    body, charset, url = question["body"].encode("latin-1"), question["charset"], question["url"]
    source: str | bytes = body.decode(charset, errors="replace") if charset else body
    text = main_text(source, url)
    return text if len(text) >= FEWEST_CHARACTERS else max(text, visible_text(source, url), key=len)


def main_text(source: str | bytes, url: str) -> str:
    """What trafilatura takes for the main text; empty where it finds none."""
    import trafilatura  # noqa: PLC0415 - heavy

    try:
        found: str | None = trafilatura.extract(
            source, url=url, output_format="markdown", include_links=True, include_tables=True, include_comments=False
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""  # hostile markup breaks it; the visible text remains
    return (found or "").strip()


def visible_text(source: str | bytes, url: str) -> str:
    """All text that is not hidden by its element, one block a line, links as [text](address)."""
    from lxml import etree, html  # noqa: PLC0415 - heavy

    try:
        root = html.document_fromstring(source)
        root.make_links_absolute(url, handle_failures="ignore")
    except (etree.LxmlError, ValueError):
        return ""
    title = root.findtext(".//title") or ""
    lines = (" ".join(line.split()) for line in "".join(walk(root)).splitlines())
    return "\n".join(line for line in (title.strip(), *lines) if line)


def walk(root: "HtmlElement") -> Iterator[str]:
    """The text of a tree in order, without recursion: markup may be nested as deep as it likes."""
    pending: list[Any] = [root]
    while pending:
        node = pending.pop()
        if isinstance(node, str):
            yield node
            continue
        if node.tail:
            pending.append(node.tail)
        if not isinstance(node.tag, str) or node.tag in HIDDEN:
            continue
        edge = "\n" if node.tag in BLOCKS else ""
        href = node.get("href", "") if node.tag == "a" else ""
        link = href.startswith(("http://", "https://")) and len(href) <= LONGEST_LINK
        pending.append(f"]({href})" if link else edge)
        pending.extend(reversed(node))
        pending.append(f"{edge}{'[' if link else ''}{node.text or ''}")
