"""The service file, the image and the compose file keep what packaging/README.md says."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from thaud.errors import ConfigError, HomeBusyError, HomeError, HomeTooNewError

ROOT = Path(__file__).parent.parent
PACKAGING = ROOT / "packaging"
UNIT = PACKAGING / "systemd" / "thaud.service"
DOCKERFILE = (PACKAGING / "docker" / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((PACKAGING / "docker" / "compose.yaml").read_text("utf-8"))
SYSTEM_UNITS = Path("/lib/systemd/system")
MOST_EXPOSURE = 2.5

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or not SYSTEM_UNITS.is_dir(),
    reason="systemd-analyze or systemd's own units are not installed",
)


def settings() -> dict[str, list[str]]:
    """The unit's assignments, by name."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A file system with systemd's own units, the service as it is shipped, and what its ExecStart names."""
    shutil.copytree(SYSTEM_UNITS, tmp_path / "lib/systemd/system", symlinks=True)
    unit = tmp_path / "etc/systemd/system/thaud.service"
    unit.parent.mkdir(parents=True)
    shutil.copyfile(UNIT, unit)
    program = tmp_path / settings()["ExecStart"][0].split()[0].lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def analyze(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--root={machine}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_service(machine: Path) -> None:
    """`systemd-analyze verify` on the shipped file: no word and exit code 0; and it does look at ExecStart."""
    done = analyze(machine, "verify", "/etc/systemd/system/thaud.service")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (machine / "opt/thau/.venv/bin/thaud").unlink()
    missing = analyze(machine, "verify", "/etc/systemd/system/thaud.service")
    assert missing.returncode != 0
    assert "/opt/thau/.venv/bin/thaud is not executable" in missing.stderr


@needs_systemd
def test_service_is_hardened(machine: Path) -> None:
    """systemd's own measure of what the service could do to its machine stays low."""
    done = analyze(machine, "security", "--offline=yes", f"--threshold={MOST_EXPOSURE * 10:.0f}", "thaud.service")
    assert done.returncode == 0, done.stdout[-300:]


def test_service_says_what_the_readme_says() -> None:
    """Notify with a watchdog, its own user, its own folder, writes into data alone, comes back, ends in order."""
    unit = {name: values[-1] for name, values in settings().items()}
    promised = {
        "Type": "notify",
        "User": "thau",
        "WorkingDirectory": "/opt/thau",
        "ExecStart": "/opt/thau/.venv/bin/thaud --home /opt/thau",
        "Restart": "always",
        "RestartSec": "10",
        "WatchdogSec": "60",
        "KillMode": "mixed",
        "ProtectSystem": "strict",
        "ReadWritePaths": "/opt/thau/data",
        "NoNewPrivileges": "yes",
        "SystemCallFilter": "@system-service",
        "WantedBy": "multi-user.target",
    }
    assert {name: unit.get(name) for name in promised} == promised


def test_service_starts_a_program_that_we_install() -> None:
    """ExecStart's program is one of our console scripts."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert Path(settings()["ExecStart"][0].split()[0]).name in scripts


def test_service_stays_down_where_only_a_person_can_help() -> None:
    """The exit codes that stop restarts are those of no home, a second daemon, a newer home, a bad configuration."""
    codes = {str(error.exit_code) for error in (HomeError, HomeBusyError, HomeTooNewError, ConfigError)}
    assert set(settings()["RestartPreventExitStatus"][0].split()) == codes


def test_service_leaves_the_gpu_and_torch_alone() -> None:
    """What would hide a GPU's devices or forbid torch's compiled kernels is not set."""
    assert (
        not {"PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock", "MemoryDenyWriteExecute"}
        & settings().keys()
    )


def test_image_is_built_in_two_stages_and_not_run_as_root() -> None:
    """The compiler stays in the first stage; the second runs as a user, and its health is /status."""
    first, second = DOCKERFILE.split("\nFROM ")[1:]
    assert first.startswith("python:3.11-slim AS build")
    assert "build-essential" in first
    assert "build-essential" not in second
    instructions = [line.split(maxsplit=1) for line in second.splitlines() if line and line[0].isupper()]
    names = [name for name, *_ in instructions]
    assert ["USER", "thau"] in instructions
    assert names.index("USER") < names.index("ENTRYPOINT") < names.index("CMD")
    assert "HEALTHCHECK" in names
    assert "http://127.0.0.1:8000/status" in second
    assert "download.pytorch.org/whl/cpu" in first


def test_everything_that_the_image_copies_is_there() -> None:
    """Each COPY from the repository names what exists and what the ignore file lets through."""
    ignore = (PACKAGING / "docker" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    sources = [
        source
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert "thaud" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignore, source


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment whose `thau` and `thaud` say how they were called."""
    for name in ("thau", "thaud"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["thaud"], ["thau init", "thaud"]), (["thau", "status"], ["thau status"])],
    ids=["daemon", "command"],
)
def test_container_has_a_home_before_its_daemon(
    commands: dict[str, str], arguments: list[str], said: list[str]
) -> None:
    """The daemon is preceded by `thau init`; any other command runs as it is."""
    entrypoint = PACKAGING / "docker" / "entrypoint.sh"
    done = subprocess.run([entrypoint, *arguments], capture_output=True, text=True, env=commands, check=True)
    assert [line.strip() for line in done.stdout.splitlines()] == said


def test_compose_has_the_services_of_the_guide() -> None:
    """thau-api and ollama with the guide's ports, volumes, restart policy and automatic training."""
    services = COMPOSE["services"]
    assert set(services) == {"thau-api", "ollama"}
    assert services["thau-api"]["ports"][0].endswith(":8000:8000")
    assert services["ollama"]["ports"][0].endswith(":11434:11434")
    assert services["ollama"]["image"] == "ollama/ollama"
    assert services["ollama"]["volumes"] == ["ollama_data:/root/.ollama"]
    assert {service["restart"] for service in services.values()} == {"always"}
    assert "AUTO_TRAIN_ENABLED=true" in services["thau-api"]["environment"]
    named = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert {name for name in named if "/" not in name} == set(COMPOSE["volumes"])


def test_compose_lets_the_services_meet() -> None:
    """THAU finds Ollama by its service's name, listens to the outside of its container, and builds this repository."""
    service = COMPOSE["services"]["thau-api"]
    assert {"OLLAMA_HOST=http://ollama:11434", "THAU_API__HOST=0.0.0.0"} <= set(service["environment"])
    folder = (PACKAGING / "docker" / service["build"]["context"]).resolve()
    assert folder == ROOT.resolve()
    assert (folder / service["build"]["dockerfile"]).is_file()
    data, inside = service["volumes"][0].split(":")
    assert ((PACKAGING / "docker" / data).resolve(), inside) == (ROOT.resolve() / "data", "/app/data")


def test_compose_publishes_to_this_machine_alone() -> None:
    """Doors that ask nobody who they are are not opened to the network by default."""
    for service in COMPOSE["services"].values():
        assert all(port.startswith("${THAU_PUBLISH:-127.0.0.1}:") for port in service["ports"])


def test_modelfile_needs_only_its_two_words() -> None:
    """With its words replaced, the template has a file, a context and a stop, and no template or system of its own."""
    text = (PACKAGING / "Modelfile.template").read_text("utf-8")
    made = text.replace("VERSION_GGUF", "./model.gguf").replace("CONTEXT_TOKENS", "128")
    lines = [line for line in made.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "FROM ./model.gguf"
    assert lines[1:3] == ["PARAMETER num_ctx 128", 'PARAMETER stop "<|im_end|>"']
    assert not [line for line in lines if line.startswith(("TEMPLATE", "SYSTEM"))]
