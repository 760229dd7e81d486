"""The page at /docs: the routes of an OpenAPI schema as plain HTML. Pure, and it asks the network for nothing."""

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h2{font:600 1.1rem ui-monospace,monospace;margin:2rem 0 .3rem}pre{background:#f2f2f2;padding:.7rem;overflow:auto}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#262626}a{color:#8bf}}"
)


def docs_page(schema: Mapping[str, Any]) -> str:
    """The whole page."""
    info = schema["info"]
    title = html.escape(f"{info['title']} {info['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1><p>{html.escape(info.get('description', ''))}</p>"
        '<p>Schema: <a href="/openapi.json">/openapi.json</a></p>' + "".join(sections(schema)) + "</html>\n"
    )


def sections(schema: Mapping[str, Any]) -> Iterator[str]:
    """A section for each route."""
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            yield f"<h2>{method.upper()} {html.escape(path)}</h2>"
            yield f"<p>{html.escape(route.get('description') or route.get('summary', ''))}</p>"
            for parameter in route.get("parameters", ()):
                about = html.escape(limits(parameter["schema"]))
                yield f"<p><code>?{html.escape(parameter['name'])}</code> {about}</p>"
            if (example := body_example(route)) is not None:
                yield f"<pre>{html.escape(curl(path, example))}</pre>"


def limits(schema: Mapping[str, Any]) -> str:
    """What a parameter may be."""
    words = {"minimum": "from", "maximum": "to", "default": "default"}
    return " ".join(f"{word} {schema[name]}" for name, word in words.items() if name in schema)


def body_example(route: Mapping[str, Any]) -> Any:
    """The example of a route's body, or None."""
    return route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")


def curl(path: str, example: Any) -> str:
    """A command that can be pasted."""
    body = json.dumps(example, ensure_ascii=False)
    return f"curl -X POST http://localhost:8000{path} \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"
