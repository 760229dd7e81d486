"""The HTTP door, thin: every route is a query of the ledger or a write into the drop-box.

    GET  /                    where everything is
    POST /training/add        one example in any accepted dialect -> the drop-box
    POST /training/batch      many of them
    POST /training/force      train now
    GET  /status  /stats      the reports of status.py
    GET  /examples/pending    what waits to be taught
    GET  /docs  /openapi.json the routes, readable without a network

There is no login, so the door is for this machine: by default it binds to 127.0.0.1 (guard.py says what it refuses).
FastAPI and uvicorn are imported when the first connection comes, because most daemons idle most of the time.

    server.py   the socket and the first connection; imports nothing heavy
    app.py      the routes (FastAPI)
    guard.py    who may ask (pure)
    page.py     /docs from the OpenAPI schema (pure)
"""

from thaud.api.server import serve_http

__all__ = ["serve_http"]
