"""What the train step says of itself, in Spanish and in English: its figures, and what is worth a line that stays.

Refuses to know where it is shown (watch.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaud.words import ES as SPANISH
from thaud.words import Words, said_in

Event = Mapping[str, Any]
MB = 1e6
WARNING = "yellow"


@dataclass(frozen=True, slots=True)
class TrainingWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in. `said`: what preflight.py and
    checkpoint.py say of themselves, by their English.
    """

    smoothed: str
    learned: str
    held_back: str
    resumed: str
    rows_halved: str
    not_kept: str
    passed_over: str
    metrics_lost: str
    not_cached: str
    trained: str
    divergence: str
    stopped_early: str
    said: Mapping[str, str]


ES = TrainingWords(
    smoothed="{text} (media {loss:.3f})",
    learned="{text} ({speed:.0f} aprendidos/s)",
    held_back="reservados {loss:.3f}",
    resumed="reanudado tras el paso {steps}",
    rows_halved="falta memoria: desde aquí, filas de {row_tokens} tokens",
    not_kept="sin punto de control en el paso {steps}: {reason}",
    passed_over="el punto de control {checkpoint} no sirve: {reason}",
    metrics_lost="metrics.jsonl queda incompleto: {reason}",
    not_cached="los tokens no se guardan: {reason}",
    trained="pérdida {first:.3f} -> {last:.3f} en {steps} pasos, {speed:.0f} tokens/s",
    divergence="{text}, KL {nats:.3f} nats",
    stopped_early="{text}, parado antes de tiempo (reservados {loss:.3f})",
    said={
        "rows of {n} tokens": "filas de {n} tokens",
        "activations computed again": "activaciones calculadas de nuevo",
        "base in 4 bits": "base en 4 bits",
        "base spread over the processes": "base repartida entre los procesos",
        "about {needed} of {budget} GiB": "unos {needed} de {budget} GiB",
        "only {free} GiB of memory are free and training takes about {needed}: close other programs, or it may be slow "
        "or be ended by the system": "solo hay {free} GiB de memoria libres y entrenar ocupa unos {needed}: cierra "
        "otros programas, o puede ir lento o acabarlo el sistema",
        "it was not written to its end": "no se terminó de escribir",
        "its manifest is damaged": "su manifiesto está dañado",
        "it is of another {what}": "es de otro {what}",
        "{file} is damaged": "{file} está dañado",
    },
)

EN = TrainingWords(
    smoothed="{text} (mean {loss:.3f})",
    learned="{text} ({speed:.0f} learned/s)",
    held_back="held back {loss:.3f}",
    resumed="resumed after step {steps}",
    rows_halved="memory ran out: rows of {row_tokens} tokens from here on",
    not_kept="no checkpoint at step {steps}: {reason}",
    passed_over="checkpoint {checkpoint} is of no use: {reason}",
    metrics_lost="metrics.jsonl is incomplete: {reason}",
    not_cached="tokens are not kept: {reason}",
    trained="loss {first:.3f} -> {last:.3f} in {steps} steps, {speed:.0f} tokens/s",
    divergence="{text}, KL {nats:.3f} nats",
    stopped_early="{text}, stopped early (held back {loss:.3f})",
    said={},
)


def training_words(words: Words) -> TrainingWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN


def figures(event: Event, words: Words) -> list[str]:
    """Loss, speed and memory of a step, each where the event has it."""
    own = training_words(words)
    found = []
    if (loss := number(event, "loss")) is not None:
        text, smoothed = words.loss.format(loss=loss), number(event, "smoothed_loss")
        found.append(text if smoothed is None else own.smoothed.format(text=text, loss=smoothed))
    if (held_back := number(event, "held_back_loss")) is not None:
        found.append(own.held_back.format(loss=held_back))
    if (speed := number(event, "tokens_per_s")) is not None:
        text, learned = f"{speed:.0f} tokens/s", number(event, "supervised_tokens_per_s")
        found.append(text if learned is None else own.learned.format(text=text, speed=learned))
    peaks = (("", number(event, "peak_memory_bytes")), ("GPU ", number(event, "device_peak_bytes")))
    return [*found, *(f"{where}{peak / MB:.0f} MB" for where, peak in peaks if peak is not None)]


def notices(event: Event, words: Words) -> list[tuple[str, str]]:
    """Lines, with their styles, that stay on the screen: how it is arranged, what went wrong, what came of it."""
    own = training_words(words)
    phrases = {
        "resumed": (own.resumed, "cyan"),
        "rows_halved": (own.rows_halved, WARNING),
        "checkpoint_failed": (own.not_kept, WARNING),
        "checkpoint_passed_over": (own.passed_over, WARNING),
        "metrics_lost": (own.metrics_lost, WARNING),
    }
    try:
        if event["event"] == "start":
            return arranged(event, own)
        if event["event"] == "end":
            return [(ended(event, own), "")]
        phrase, style = phrases[event["event"]]
        values = {name: said_in(own.said, value) if name == "reason" else value for name, value in event.items()}
        return [(phrase.format(**values), style)]
    except (LookupError, TypeError, ValueError):  # another event, or one of another release of the step
        return []


def arranged(event: Event, own: TrainingWords) -> list[tuple[str, str]]:
    """In which precision and how it computes, and what it has to warn of."""
    parts = [said_in(own.said, part) for part in str(event["arrangement"]).split(", ")]
    lines = [(", ".join(parts), "")]
    if warning := event.get("warning"):
        lines.append((said_in(own.said, str(warning)), WARNING))
    if reason := event.get("not_cached"):
        lines.append((own.not_cached.format(reason=reason), WARNING))
    return lines


def ended(event: Event, own: TrainingWords) -> str:
    """What came of a training, on one line."""
    text = own.trained.format(
        first=event["first_loss"], last=event["last_loss"], steps=event["steps"], speed=event["tokens_per_s"]
    )
    if (nats := number(event, "kl_to_base")) is not None:
        text = own.divergence.format(text=text, nats=nats)
    if event.get("stopped_early"):
        text = own.stopped_early.format(text=text, loss=event["held_back_loss"])
    return text


def number(event: Event, name: str) -> float | None:
    """A figure of an event, None where it has none."""
    value = event.get(name)
    return value if isinstance(value, int | float) else None
