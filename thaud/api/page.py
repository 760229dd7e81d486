"""The page at /docs: the routes of an OpenAPI schema as plain HTML. Pure, and it asks the network for nothing.

Each route: what it does, its parameters, a command that can be pasted, and what it answers.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

STYLE = """
:root{--ink:#1d2430;--dim:#5d6778;--back:#fff;--card:#f5f6f8;--line:#dfe3e9;--get:#1a6fb5;--post:#1b7f4b}
@media(prefers-color-scheme:dark){:root{--ink:#dfe4ec;--dim:#98a2b3;--back:#14171c;--card:#1d2229;--line:#313843;
--get:#6cb4ee;--post:#5fc88f}}
*{box-sizing:border-box}
body{font:16px/1.55 system-ui,sans-serif;max-width:54rem;margin:2.5rem auto;padding:0 1.25rem;
color:var(--ink);background:var(--back)}
h1{margin:0 0 .25rem}h1 small{font-weight:400;font-size:1rem;color:var(--dim)}
h2{font:600 1.1rem ui-monospace,monospace;margin:0 0 .4rem}
h3{font-size:.8rem;font-weight:600;color:var(--dim);margin:.9rem 0 .25rem}
section{border-top:1px solid var(--line);padding:1.4rem 0 1rem}
p{margin:.3rem 0}a{color:var(--get)}
table{border-collapse:collapse;margin:1rem 0 2rem;width:100%}
td{border-top:1px solid var(--line);padding:.35rem .8rem .35rem 0;vertical-align:top}
pre{font:.86rem/1.5 ui-monospace,monospace;background:var(--card);border:1px solid var(--line);border-radius:6px;
padding:.7rem .9rem;margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
code{font:.92em ui-monospace,monospace;background:var(--card);border-radius:4px;padding:.1em .3em}
.get,.post{font:600 .8rem ui-monospace,monospace;margin-right:.5rem}.get{color:var(--get)}.post{color:var(--post)}
"""


def docs_page(schema: Mapping[str, Any], base_url: str) -> str:
    """The whole page. `base_url`: where the reader reached us, for the commands."""
    info = schema["info"]
    title, version = html.escape(info["title"]), html.escape(info["version"])
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title} {version}</title><style>{STYLE}</style>'
        f"<h1>{title} <small>{version}</small></h1><p>{text(info.get('description', ''))}</p>"
        f"<table>{''.join(contents(schema))}</table>{''.join(sections(schema, base_url))}"
        '<p>For programs: <a href="/openapi.json">/openapi.json</a></p></html>\n'
    )


def contents(schema: Mapping[str, Any]) -> Iterator[str]:
    """A line for each route."""
    for method, path, route in routes(schema):
        name = f'{badge(method)}<a href="#{anchor(method, path)}"><b>{html.escape(path)}</b></a>'
        yield f"<tr><td>{name}</td><td>{text(first_sentence(about(route)))}</td></tr>"


def sections(schema: Mapping[str, Any], base_url: str) -> Iterator[str]:
    """A section for each route."""
    for method, path, route in routes(schema):
        name = html.escape(path)
        shown = f'<a href="{name}">{name}</a>' if method == "get" else name
        yield f'<section id="{anchor(method, path)}"><h2>{badge(method)}{shown}</h2>'
        yield f"<p>{text(about(route))}</p>"
        for parameter in route.get("parameters", ()):
            yield f"<p><code>?{html.escape(parameter['name'])}=</code> {html.escape(limits(parameter['schema']))}</p>"
        yield f"<pre>{html.escape(curl(method, f'{base_url}{path}', body_example(route)))}</pre>"
        for code, answer in answers(route):
            yield f"<h3>{html.escape(code)}</h3><pre>{html.escape(answer)}</pre>"
        yield "</section>"


def routes(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(method, path, route), in the schema's order."""
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            yield method, path, route


def about(route: Mapping[str, Any]) -> str:
    """What a route does."""
    return str(route.get("description") or route.get("summary", ""))


def first_sentence(said: str) -> str:
    """The beginning, up to a full stop, a colon or a semicolon."""
    return re.split(r"[.:;](?:\s|$)", said, maxsplit=1)[0]


def text(said: str) -> str:
    """A sentence as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(said, quote=False))


def badge(method: str) -> str:
    """A method in its colour."""
    return f'<span class="{html.escape(method)}">{html.escape(method.upper())}</span>'


def anchor(method: str, path: str) -> str:
    """A name for links within the page."""
    return html.escape(f"{method}-{path.strip('/').replace('/', '-') or 'index'}")


def limits(schema: Mapping[str, Any]) -> str:
    """What a parameter may be."""
    words = {"minimum": "from", "maximum": "to", "default": "else"}
    return " ".join(f"{word} {schema[name]}" for name, word in words.items() if name in schema)


def body_example(route: Mapping[str, Any]) -> Any:
    """The example of a route's body, or None."""
    return route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")


def answers(route: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(status and what it means, example as JSON text) of each answer that has an example."""
    for code, response in route.get("responses", {}).items():
        example = response.get("content", {}).get("application/json", {}).get("example")
        if example is not None:
            yield f"{code} {response.get('description', '')}".strip(), json.dumps(example, ensure_ascii=False, indent=2)


def curl(method: str, url: str, example: Any) -> str:
    """A command that can be pasted into a shell."""
    if method == "get":
        return f"curl {url}"
    if example is None:
        return f"curl -X {method.upper()} {url}"
    body = json.dumps(example, ensure_ascii=False, indent=2).replace("'", "'\\''")
    return f"curl -X {method.upper()} {url} \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"
