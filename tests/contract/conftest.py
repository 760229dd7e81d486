"""The target of every contract test: the fake in both generations, and the server that THAU_TEST_OLLAMA_HOST names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.targets import VARIABLE, Target
from tests.serving.kit import Forge
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer, has_native_templates

NO_SERVER = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no Ollama server")


@pytest.fixture(
    params=["fake-new", "fake-old", pytest.param("real", marks=[pytest.mark.ollama, NO_SERVER])],
)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    forge = Forge(tmp_path, f"thau-contract-{os.getpid()}")
    if request.param == "real":
        server = OllamaServer(os.environ[VARIABLE])
        real = Target(server, has_native_templates(server.version()), forge)
        try:
            yield real
        finally:
            real.leave()
        return
    with FakeOllama(request.param.removeprefix("fake-")) as fake:
        yield Target(OllamaServer(fake.url), request.param == "fake-new", forge)
