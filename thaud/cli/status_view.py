"""What `thau status` prints: the report of status.py in words, in the order of the guide's sample. Pure."""

from collections.abc import Iterator
from typing import Any

from thaud.cli.pause_words import PauseWords, pause_words
from thaud.cli.review_words import review_words
from thaud.cli.strategy_words import strategy_sentence, strategy_words
from thaud.cli.sync_words import state_sentence, sync_words
from thaud.cli.version_words import version_words
from thaud.curriculum import Blocker
from thaud.domain import percent
from thaud.words import ES, Words, reasons_in, sentence_of

WIDTH = 88


def status_lines(report: dict[str, Any], words: Words, width: int = WIDTH) -> Iterator[tuple[str, str]]:
    """Lines with their styles. `report` is status.with_daemon's, with "not_read"; `width`: of the rules."""
    rule = "=" * min(width, WIDTH)
    yield from ((rule, "dim"), (words.title, "bold"), (rule, "dim"), ("", ""))
    version = f"v{report['version']}" if report["version"] else "-"
    yield f"{words.model}: {report['model'] or words.no_model.format(family=report['family'])}", "bold"
    yield f"{words.size}: {report['size']}", ""
    yield f"{words.version}: {version}", ""
    yield "", ""
    yield from age_lines(report["cognitive"], words)
    yield "", ""
    yield from progress_lines(report["cognitive"]["progress"], words)
    yield "", ""
    yield from total_lines(report, words)
    yield "", ""
    yield from service_lines(report, words)


def age_lines(cognitive: dict[str, Any], words: Words) -> Iterator[tuple[str, str]]:
    """The age and what it means."""
    stage = words.stages[cognitive["stage"]]
    phrase = words.one_year if cognitive["current_age"] == 1 else words.years
    yield f"{words.development}:", "bold"
    yield f"  {words.age}: {phrase.format(age=cognitive['current_age'], stage=stage.name)}", ""
    yield f"  {words.description}: {stage.description}", ""


def progress_lines(progress: dict[str, Any], words: Words) -> Iterator[tuple[str, str]]:
    """How far the stage's criteria are met."""
    have, need = progress["examples"], progress["min_examples"]
    yield f"{words.progress}:", "bold"
    yield f"  {words.examples_here}: {have} / {need} ({progress['progress_pct']}%)", ""
    yield f"  {words.accuracy_now}: {score_text(progress['accuracy'], words)}", ""
    yield f"  {words.accuracy_needed}: {percent(progress['min_accuracy'])}", ""
    reasons = blocker_sentence(progress, words)
    advance = words.no_because.format(reasons=reasons) if reasons else words.yes
    yield f"  {words.can_advance}: {advance}", "yellow" if reasons else "green"


def score_text(score: dict[str, Any] | None, words: Words) -> str:
    """An accuracy with what it stands on."""
    if score is None or not score["n"]:
        return words.not_measured
    low, high = score["interval"]
    return words.accuracy_detail.format(
        accuracy=percent(score["accuracy"]), right=score["right"], n=score["n"], low=percent(low), high=percent(high)
    )


def blocker_sentence(progress: dict[str, Any], words: Words) -> str:
    """Everything that keeps THAU at its age, in one sentence; empty where nothing does."""
    reasons = [blocker_reason(Blocker(each), progress, words) for each in progress["blockers"]]
    return sentence_of(reasons, "y" if words is ES else "and")


def blocker_reason(blocker: Blocker, progress: dict[str, Any], words: Words) -> str:
    """One of them."""
    missing = progress["min_examples"] - progress["examples"]
    score = progress["accuracy"] or {"n": 0, "accuracy": 0.0}
    accuracy, needed = percent(score["accuracy"]), percent(progress["min_accuracy"])
    if accuracy == needed:
        accuracy = f"{score['accuracy']:.1%}"
    return {
        Blocker.NOT_TRAINED: words.never_trained,
        Blocker.EXAMPLES: words.missing_one_example if missing == 1 else words.missing_examples.format(n=missing),
        Blocker.EVIDENCE: words.missing_evidence.format(n=score["n"], needed=progress["min_items"]),
        Blocker.ACCURACY: words.low_accuracy.format(accuracy=accuracy, needed=needed),
        Blocker.LAST_STAGE: words.last_stage,
    }[blocker]


def total_lines(report: dict[str, Any], words: Words) -> Iterator[tuple[str, str]]:
    """What was taught, what waits, what was refused."""
    service, age = report["service"], report["cognitive"]["current_age"]
    later = {int(each): n for each, n in service["waiting_by_age"].items() if int(each) > age}
    yield f"{words.total_examples}: {service['total_examples_trained']}", ""
    yield f"{words.trainings}: {service['trainings_completed']}", ""
    yield f"{words.pending}: {service['pending']}", ""
    if later:
        parts = (words.at_age.format(n=n, age=each) for each, n in sorted(later.items()))
        yield f"{words.waiting_later}: {', '.join(parts)}", ""
    if service["rejected_lines"]:
        yield f"{words.rejected_lines}: {service['rejected_lines']} (thau rejected)", "yellow"
    if report["proposals"]:
        waiting = review_words(words)
        yield f"{waiting.waiting}: {waiting.waits.format(n=report['proposals'])}", "cyan"
    for each in report["not_read"]:
        yield f"{words.not_read}: {each['file']}: {each['reason']}", "yellow"


def service_lines(report: dict[str, Any], words: Words) -> Iterator[tuple[str, str]]:
    """The daemon, the run under way, the last one that made no version, and Ollama."""
    automatic = words.running if report["service"]["auto_train_enabled"] else words.automatic_off
    yield f"{words.service}: {automatic if report['daemon'] else words.stopped}", "green" if report["daemon"] else ""
    yield from pause_lines(report, pause_words(words))
    if running := report["running"]:
        yield f"{words.run_under_way}: {run_text(running, words)}", "cyan"
        yield f"  {strategy_sentence(running, strategy_words(words))}", ""
    if not_started := report["service"]["not_started"]:
        yield f"{words.not_started}: {not_started}", "red"
    last = report["service"]["last_run"]
    if last and last["state"] in {"failed", "rejected"}:
        yield f"{words.last_failure}: {run_text(last, words)}: {reasons_in(words, last['reasons'])}", "red"
    yield f"{words.ollama}: {ollama_text(report, words)}", ""
    if (state := report["ollama_state"]) and state["state"] in {"away", "refused", "behind"}:
        yield f"  {state_sentence(state, sync_words(words))}", "yellow"


def pause_lines(report: dict[str, Any], words: PauseWords) -> Iterator[tuple[str, str]]:
    """What is held up, and what might be soon: pauses, a long reading, polling, requests that are none, a full disk."""
    for each in report["paused"]:
        hope = words.when_there_is_room if each["no_room"] else words.tried_again.format(at=second_of(each["next_try"]))
        since, reason = minute_of(each["since"]), each["reason"]
        yield words.pause.format(what=words.paused[each["what"]], since=since, reason=reason, hope=hope), "red"
    if report["silent_since"]:
        yield f"{words.silent_since}: {minute_of(report['silent_since'])}", "yellow"
    if report["reading"]:
        yield f"{words.reading_now}: {report['reading']}", "cyan"
    if (watching := report["watching"]) and watching["why"]:
        yield words.polling.format(every=f"{watching['every_s']:g}", why=watching["why"]), "yellow"
    if report["unreadable_requests"]:
        yield f"{words.unreadable_requests}: {', '.join(report['unreadable_requests'])}", "yellow"
    if report["disk"]["low"]:
        yield f"{words.little_disk}: {report['disk']['free_bytes'] / 1e6:.0f} MB", "yellow"


def minute_of(at: str) -> str:
    """A time in UTC as people read it, to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC"


def second_of(at: str) -> str:
    """The time of day in UTC, to the second."""
    return f"{at[11:19]} UTC"


def run_text(run: dict[str, Any], words: Words) -> str:
    """A run in short."""
    return words.run_detail.format(id=run["id"], age=run["age"], state=words.states[run["state"]])


def ollama_text(report: dict[str, Any], words: Words) -> str:
    """What is known of the server: of the champion where something is, else of the newest entry."""
    entries: list[dict[str, Any]] = sorted(report["ollama"], key=lambda entry: entry["at"])
    if not entries:
        return words.nothing_registered
    own = [entry for entry in entries if entry["name"] == report["model"]]
    entry = (own or entries)[-1]
    state = version_words(words).states.get(entry["state"], entry["state"])
    return " ".join(part for part in (entry["name"], f"@ {entry['host']}:", state, entry["detail"]) if part)
