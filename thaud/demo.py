"""The main job, shown on real input: `python -m thaud.demo [--keep] [--home DIR]`.

A throw-away home, the nano size, a real daemon, two dataset files copied into the drop-box; then three held-out
questions for the newest version. Exit code 0 only if everything that it promises is so (`promises`). It uses the same
commands as people do, as child processes, and shows them; refuses to touch a folder that holds anything.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from thaud.artefacts import passed_certificate
from thaud.config import Settings, load_settings, preferred_language
from thaud.control import daemon_runs
from thaud.curriculum import stage_at, stages_with
from thaud.domain import QueuedExample, RunState, Side, Version, percent
from thaud.errors import StepError, StorageError, ThauError, UsageError
from thaud.grading import grade
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.watch import follow, open_view
from thaud.words import LANGUAGES, Language, Words

ROOT = Path(__file__).resolve().parent.parent
DATASETS = ROOT / "data" / "datasets"
FILES = ("age_0_newborn.jsonl", "age_1_infant.jsonl")
FAMILY = "thau-nano"
DEADLINE_S, START_S, STOP_S, POLL_S = 480.0, 30.0, 20.0, 0.1
QUESTIONS_BY_AGE = {0: 1, 1: 2}
OWN_CONFIG = "\n[api]\nport = 0  # any free one\n\n[serving]\nollama_enabled = false\n"


@dataclass(frozen=True, slots=True)
class Phrases:
    """What the demo says between the commands. Braces name the values that `str.format` fills in."""

    title: str
    process: str
    alone: str
    too_slow: str
    questions: str
    right: str
    wrong: str
    silence: str
    stays: str
    versions: str
    age: str
    accuracy: str
    answers: str
    certificates: str
    uncertified: str


ES = Phrases(
    title="El trabajo principal de THAU, en una carpeta temporal: {root}",
    process="proceso {pid}, registro: {log}",
    alone="Ni un paso humano más: entrena, exporta, examina y promueve por sí solo",
    too_slow="sin terminar después de {seconds:.0f} s",
    questions="Tres preguntas del examen para la última versión: nunca se le enseñaron con estas palabras",
    right="bien",
    wrong="mal, se esperaba: {expected}",
    silence="(sin respuesta)",
    stays="La carpeta se conserva: thau --home {root} status",
    versions="versiones aceptadas: {versions}",
    age="edad cognitiva: {age}",
    accuracy="{version}, accuracy en el examen de la edad {age}: {measured}; se requiere el {bar}",
    answers="respuestas correctas: {right} de {n}",
    certificates="certificados: aprobados, misma primera opción en el {top1} de las posiciones",
    uncertified="certificados: falta el de {versions}",
)
EN = Phrases(
    title="THAU's main job, in a throw-away home: {root}",
    process="process {pid}, log: {log}",
    alone="No other human step: it trains, exports, examines and promotes by itself",
    too_slow="not finished after {seconds:.0f} s",
    questions="Three held-out questions for the newest version: these wordings were never taught",
    right="right",
    wrong="wrong, expected: {expected}",
    silence="(no answer)",
    stays="The home stays: thau --home {root} status",
    versions="accepted versions: {versions}",
    age="cognitive age: {age}",
    accuracy="{version}, held-out accuracy at age {age}: {measured}; bar {bar}",
    answers="right answers: {right} of {n}",
    certificates="certificates: passed, same first choice at {top1} of the positions",
    uncertified="certificates: {versions} have none that passed",
)
PHRASES: Mapping[Language, Phrases] = {"es": ES, "en": EN}


@dataclass(frozen=True, slots=True)
class Answered:
    """A held-out question, what was expected, and what the version said."""

    question: str
    expected: str
    given: str
    right: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m thaud.demo", description="THAU's main job, from drop to answer.")
    parser.add_argument("--keep", action="store_true", help="do not delete the home at the end")
    parser.add_argument("--home", type=Path, help="an empty or new folder to use instead of a temporary one")
    args = parser.parse_args(argv)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    teller = Teller(console, preferred_language("auto"))
    try:
        with throw_away(args.home, teller, keep=args.keep) as root:
            return show(Home(root), teller)
    except ThauError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


@dataclass(frozen=True, slots=True)
class Teller:
    """Where the demo is shown, and in which language."""

    console: Console
    language: Language

    @property
    def words(self) -> Words:
        """The words that commands and the live view use."""
        return LANGUAGES[self.language]

    @property
    def phrases(self) -> Phrases:
        """The demo's own."""
        return PHRASES[self.language]


@contextmanager
def throw_away(named: Path | None, teller: Teller, *, keep: bool) -> Iterator[Path]:
    """An empty folder that is gone afterwards, unless it is to be kept. Raises UsageError where it is not empty."""
    if named is not None and named.exists() and (not named.is_dir() or any(named.iterdir())):
        raise UsageError(f"{named} is not empty: the demo deletes its home, so name a new folder")
    root = named.absolute() if named is not None else Path(tempfile.mkdtemp(prefix="thau-demo-"))
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield root
    finally:
        if keep:
            teller.console.print(Text("\n" + teller.phrases.stays.format(root=root)))
        else:
            shutil.rmtree(root, ignore_errors=True)


def show(home: Home, teller: Teller) -> int:
    """The main job in a fresh home; the exit code."""
    began_at = time.monotonic()
    say(teller, teller.phrases.title.format(root=home.root))
    for name in FILES:
        if not (DATASETS / name).is_file():
            raise StorageError(f"{DATASETS / name} is missing: run the demo from a checkout, after `make datasets`")
    thau(home, teller, "init", "--size", "nano")
    with home.config.open("a", encoding="utf-8") as config:
        config.write(OWN_CONFIG)
    settings = load_settings(home)
    with daemon(home, teller):
        drop_and_follow(home, teller)
        answers = ask_three(home, teller)
        thau(home, teller, "versions")
        thau(home, teller, "status")
    kept = list(promises(home, settings, answers, teller))
    teller.console.print()
    for holds, promise in kept:
        teller.console.print(Text(f"{'ok' if holds else 'NO'}  {promise}", style="green" if holds else "bold red"))
    teller.console.print(Text(f"{time.monotonic() - began_at:.0f} s"))
    return 0 if all(holds for holds, _ in kept) else 1


def say(teller: Teller, text: str) -> None:
    """A heading."""
    teller.console.print(Text(f"\n==> {text}", style="bold"))


def thau(home: Home, teller: Teller, *words: str) -> None:
    """Run a command as people would, and show it. Raises StepError where it fails."""
    say_command(teller, *words)
    if code := subprocess.run(command(home, *words), check=False).returncode:
        raise StepError(f"`thau {words[0]}` ended with exit code {code}")


def say_command(teller: Teller, *words: str) -> None:
    """A command line."""
    quoted = [f'"{word}"' if " " in word else word for word in words]
    teller.console.print(Text(f"\n$ thau {' '.join(quoted)}", style="bold cyan"))


def command(home: Home, *words: str) -> list[str]:
    """A command line for this very Python."""
    return [sys.executable, "-m", "thaud.cli", "--home", str(home.root), *words]


@contextmanager
def daemon(home: Home, teller: Teller) -> Iterator[None]:
    """A daemon for as long as the block runs, in a session of its own so that Ctrl-C reaches us first."""
    say_command(teller, "start")
    log = home.logs / "demo-daemon.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(
            command(home, "start"),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(home, child, log)
        teller.console.print(Text("  " + teller.phrases.process.format(pid=child.pid, log=home.service_log)))
        yield
    finally:
        stop(child)


def wait_until_up(home: Home, child: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the daemon's lock. Raises StepError where it dies or takes too long."""
    deadline = time.monotonic() + START_S
    while not daemon_runs(home):
        if child.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise StepError(f"the daemon did not start: {lines[-1] if lines else 'it said nothing'}")
        time.sleep(POLL_S)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the daemon: ask, wait, then force. Its steps end with it."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def drop_and_follow(home: Home, teller: Teller) -> None:
    """Copy the datasets in, and show what comes of it until nothing more will come."""
    for name in FILES:
        teller.console.print(Text(f"\n$ cp data/datasets/{name} {home.queue}/", style="bold cyan"))
        shutil.copyfile(DATASETS / name, home.queue / name)
    say(teller, teller.phrases.alone)
    with open_view(teller.console, teller.words) as view:
        if not follow(home, view, is_over, after=0, deadline_s=DEADLINE_S):
            teller.console.print(Text(teller.phrases.too_slow.format(seconds=DEADLINE_S), style="red"))


def is_over(ledger: LedgerReader) -> bool:
    """Whether nothing more will come: all is taught at the age that was reached, or the last run made no version."""
    runs = ledger.runs(1)
    if not runs or ledger.unfinished_run() is not None:
        return False
    pending, _ = ledger.pending(FAMILY, ledger.age)
    return not pending or runs[0].state is not RunState.PROMOTED


def ask_three(home: Home, teller: Teller) -> list[Answered]:
    """Three held-out questions, chosen by their ids before anything was answered, for the newest version."""
    say(teller, teller.phrases.questions)
    return [ask(home, teller, each) for each in chosen_questions(home)]


def chosen_questions(home: Home) -> list[QueuedExample]:
    """The first by id of each age that are plain questions of different kinds: the same three on the same data."""
    chosen: list[QueuedExample] = []
    with LedgerReader.open(home.ledger) as ledger:
        by_age = ledger.ids_by_age(Side.HELD_OUT, max(QUESTIONS_BY_AGE))
        for age, n in QUESTIONS_BY_AGE.items():
            kinds: dict[str, QueuedExample] = {}
            for each in ledger.examples(sorted(by_age.get(age, ()))):
                if len(each.example.prompt) == 1:
                    kinds.setdefault((each.example.group or each.id).partition("/")[0], each)
            chosen += list(kinds.values())[:n]
    return chosen


def ask(home: Home, teller: Teller, queued: QueuedExample) -> Answered:
    """One question to the newest version."""
    question, expected = queued.example.prompt[0].content, queued.example.completion
    say_command(teller, "ask", question)
    said = subprocess.run(command(home, "ask", question, "--json"), check=False, stdout=subprocess.PIPE)
    given = str(read_json(said.stdout).get("answer", ""))
    right = grade(expected, given, queued.example.grader).correct
    phrases = teller.phrases
    mark = phrases.right if right else phrases.wrong.format(expected=expected.content)
    teller.console.print(Text(f"{given or phrases.silence}  [{mark}]", style="green" if right else "red"))
    return Answered(question, expected.content, given, right)


def read_json(data: bytes) -> dict[str, Any]:
    """What a command printed; empty where it failed."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def promises(home: Home, settings: Settings, answers: Sequence[Answered], teller: Teller) -> Iterator[tuple[bool, str]]:
    """What must be so at the end, each with whether it is."""
    phrases = teller.phrases
    with LedgerReader.open(home.ledger) as ledger:
        versions, age = ledger.versions(settings.family), ledger.age
    yield len(versions) >= 2, phrases.versions.format(versions=", ".join(each.name for each in versions) or "-")
    yield age >= 1, phrases.age.format(age=age)
    if versions:
        newest = versions[-1]
        bar = stage_at(stages_with(settings.stages), newest.age).min_accuracy
        score, (low, high) = newest.accuracy, newest.accuracy.interval
        measured = teller.words.accuracy_detail.format(
            accuracy=percent(score.accuracy), right=score.right, n=score.n, low=percent(low), high=percent(high)
        )
        met = score.n >= settings.exam.min_items and score.accuracy >= bar
        yield (
            met,
            phrases.accuracy.format(version=newest.name, age=newest.age, measured=measured, bar=percent(bar)),
        )
    yield certified(home, versions, phrases)
    right = sum(each.right for each in answers)
    yield right >= 2, phrases.answers.format(right=right, n=len(answers))


def certified(home: Home, versions: Sequence[Version], phrases: Phrases) -> tuple[bool, str]:
    """Whether each version has a certificate that passed of its very file, and the least agreement of them."""
    least, without = 1.0, []
    with LedgerReader.open(home.ledger) as ledger:
        for version in versions:
            found = passed_certificate(ledger.receipt(version.run_id, "certify"), version.gguf_sha256)
            if found is None:
                without.append(version.name)
            else:
                least = min(least, found["fidelity"]["top1"])
    if without or not versions:
        return False, phrases.uncertified.format(versions=", ".join(without) or "-")
    return True, phrases.certificates.format(top1=f"{least:.1%}")


if __name__ == "__main__":
    sys.exit(main())
