from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.safety.local_web import LocalServer, LocalServerV6, Servers, serving
from tests.safety.walls import RESULTS, Results
from tests.testkit.escapes import ESCAPES
from tools.outside import Sandbox
from tools.sandbox import Policy, Unsafe
from tools.workspace import Workspace


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Results:
    return request.config.stash.setdefault(RESULTS, Results())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests are spread over processes, send the table to the one that prints it: tests/conftest.py."""
    results = session.config.stash.get(RESULTS, None)
    if results is not None and (results.probes or results.absent):
        session.config.stash[ESCAPES] = results.table()
        getattr(session.config, "workeroutput", {})["escapes"] = results.table()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy(Workspace(folder))


@pytest.fixture
def unsafe(policy: Policy) -> Sandbox:
    return Unsafe(policy)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with serving(LocalServer(("127.0.0.1", 0))) as v4, serving(LocalServerV6(("::1", 0))) as v6:
        yield Servers(v4, v6)
