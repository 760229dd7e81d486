"""The model card of an exported version: a README.md for who gets the files and has never heard of THAU.

Hugging Face's front matter, then how to run it, what it knows, how it was trained, what the certificate found, limits.
Figures come from the ledger and are never worked out here; what nobody measured is said to be unknown. Refuses to name
a path of the machine that it was trained on, and to quote an example.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaud import __version__
from thaud.cli.card_words import CardWords, card_words
from thaud.cli.strategy_words import strategy_text, strategy_words
from thaud.curriculum import STAGES, stage_at
from thaud.domain import Version, percent
from thaud.nano import BASE_DIR
from thaud.sizes import SHIPPED_NANO
from thaud.words import Words

HUB_CACHE = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/")
LANGUAGE_SHARE = 0.2
SIGNS = {
    "es": re.compile(r"[¿¡ñáéíóú]|\b(?:qué|cuál|el|los|una|es)\b", re.IGNORECASE),
    "en": re.compile(r"\b(?:the|what|is|how|are|of)\b", re.IGNORECASE),
}
TAGS = ("thau", "lora", "gguf", "llama-cpp", "ollama")
SHARES = {"top1", "bar", "share"}
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of the export, for the card."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What a card is about. `report` is origins.report_provenance's, `ages` counts the examples that were taught.

    `files` are those that the card stands beside, the model first.
    """

    version: Version
    report: Report
    ages: Mapping[int, int]
    languages: Sequence[str]
    context_tokens: int
    files: Sequence[Exported]
    has_old_modelfile: bool


def model_card(subject: Subject, words: Words) -> str:
    """The whole card, as Markdown."""
    own = card_words(words)
    sections = (
        front_matter(subject),
        f"# {subject.version.name}",
        *introduction(subject, own, words),
        *running(subject, own),
        *exam(subject, own, words),
        *training(subject, own, words),
        *certificate(subject, own),
        *limits(subject, own, words),
        *files(subject, own),
        *licence(subject, own),
    )
    return "\n\n".join(sections) + "\n"


# What it is


def base_name(base: str | None) -> str:
    """A base as other people can find it: `nano`, a hub id, or a folder's name; a path says too much."""
    path = base or "?"
    if Path(path) == BASE_DIR:
        return SHIPPED_NANO
    found = HUB_CACHE.search(f"{path}/")
    return f"{found[1]}/{found[2]}" if found else Path(path).name


def is_on_hub(base: str | None) -> bool:
    """Whether a base came from the hub."""
    return HUB_CACHE.search(f"{base}/") is not None


def languages_in(texts: Iterable[str]) -> list[str]:
    """Those of Spanish and English that a fifth of the texts show signs of."""
    seen, total = Counter[str](), 0
    for text in texts:
        total += 1
        seen.update(language for language, signs in SIGNS.items() if signs.search(text))
    return [language for language in SIGNS if total and seen[language] >= LANGUAGE_SHARE * total]


def front_matter(subject: Subject) -> str:
    """YAML for the hub; strings are written as JSON, which YAML reads."""
    base, report = subject.report["base"], subject.report
    lines = ["---"]
    if is_on_hub(base):
        lines += [f"base_model: {json.dumps(base_name(base))}", "base_model_relation: finetune"]
    if subject.languages:
        lines += ["language:", *(f"- {each}" for each in subject.languages)]
    if base_name(base) == SHIPPED_NANO:
        lines.append("license: apache-2.0")
    else:
        lines += ["license: other", "license_name: as-the-base-model"]
    tags = [*TAGS, report["family"]]
    return "\n".join([*lines, "pipeline_tag: text-generation", "tags:", *(f"- {tag}" for tag in tags), "---"])


def base_words(subject: Subject, own: CardWords) -> str:
    """The base, in words."""
    base = subject.report["base"]
    if base_name(base) == SHIPPED_NANO:
        return own.base_nano
    return (own.base_hub if is_on_hub(base) else own.base_folder).format(base=base_name(base))


def stage_words(age: int, words: Words) -> tuple[str, str]:
    """(name, description) of the stage of an age."""
    stage = words.stages[stage_at(STAGES, age).name]
    return stage.name, stage.description


def introduction(subject: Subject, own: CardWords, words: Words) -> Iterator[str]:
    """What it is, and in which files."""
    version = subject.version
    name, description = stage_words(version.age, words)
    yield own.what.format(
        n=version.n,
        family=version.family,
        base=base_words(subject, own),
        examples=f"{version.examples:,}",
        date=version.accepted_at[:10],
        age=version.age,
        stage=name,
        description=description,
    )
    model = subject.files[0]
    if version.kind == "adapter":
        sizes = {each.name: size_words(each.size_bytes) for each in subject.files}
        files_said = own.on_base.format(base_size=sizes["base.gguf"], size=sizes["adapter.gguf"])
    else:
        files_said = own.merged.format(file=model.name, kind=version.kind.upper(), size=size_words(model.size_bytes))
    yield f"{files_said} {own.made.format(thau=__version__)}"


def size_words(size_bytes: int) -> str:
    """1.9 kB, 7.9 MB, 1.9 GB."""
    unit, size = ("GB", 1e9) if size_bytes >= 1e9 else ("MB", 1e6) if size_bytes >= 1e6 else ("kB", 1e3)
    return f"{size_bytes / size:.1f} {unit}"


def running(subject: Subject, own: CardWords) -> Iterator[str]:
    """Commands for Ollama and llama.cpp."""
    name, context = subject.version.name, subject.context_tokens
    yield f"## {own.run_heading}"
    yield own.run_new
    yield fenced(f"ollama create {name} -f Modelfile", f"ollama run {name}")
    if subject.has_old_modelfile:
        yield own.run_old
        yield fenced(f"ollama create {name} -f Modelfile.ollama-0.24", f"ollama run {name}")
    else:
        yield own.run_no_old
    adapted = subject.version.kind == "adapter"
    model = "-m base.gguf --lora adapter.gguf" if adapted else f"-m {subject.files[0].name}"
    yield own.run_llama
    yield fenced(f"llama-cli {model} --jinja -c {context} --temp 0", f"llama-server {model} --jinja -c {context}")
    yield own.run_template.format(context=context)


def fenced(*commands: str) -> str:
    """A block for a shell."""
    return "\n".join(["```bash", *commands, "```"])


# What it knows, and how it came about


def exam(subject: Subject, own: CardWords, words: Words) -> Iterator[str]:
    """Right answers, by age."""
    report = subject.report["exam"]
    yield f"## {own.exam_heading}"
    if report is None:
        yield own.exam_none
        return
    age, retention = subject.version.age, report["retention"]
    asked = [(own.own_age.format(age=age, stage=stage_words(age, words)[0]), report["accuracy"])]
    for earlier in sorted(retention, key=int, reverse=True):
        stage = stage_words(int(earlier), words)[0]
        asked.append((own.earlier_age.format(age=earlier, stage=stage), retention[earlier]))
    asked.append((own.recall, report["recall"]))
    yield own.exam_how
    yield table(own.exam_columns, [(what, *score_cells(score)) for what, score in asked if score["n"]])


def score_cells(score: Report) -> tuple[str, ...]:
    """Right, of, share, interval."""
    low, high = score["interval"]
    return str(score["right"]), str(score["n"]), percent(score["accuracy"]), f"{percent(low)} - {percent(high)}"


def training(subject: Subject, own: CardWords, words: Words) -> Iterator[str]:
    """What decided the outcome, and what was measured on the way."""
    report, trained = subject.report, subject.report["training"] or {}
    values = {
        "run": report["run"],
        "base": base_name(report["base"]),
        "base_digest": code(report["base_digest"]),
        "strategy": strategy_text(report, strategy_words(words)),
        "line": " -> ".join(each["version"] or each["run"] for each in report["line"]) if report["line"][1:] else None,
        "examples": examples_words(subject, own),
        "left": f"{trained['set_aside']}; {trained['cut']}" if trained else None,
        "seed": report["seed"],
        **{name: value for name, value in report["hyperparameters"].items() if name in own.rows},
        "lora": lora_words(report["hyperparameters"]),
        "precision": trained.get("precision") or report["hyperparameters"].get("precision"),
        "steps": f"{trained['steps']:,}; {trained['tokens']:,}" if trained else None,
        "loss": f"{trained['first_loss']:.3f} -> {trained['last_loss']:.3f}" if trained else None,
        "kl_to_base": rounded(trained.get("kl_to_base")),
        "adapter_sha256": code(trained.get("adapter_sha256")),
    }
    yield f"## {own.training_heading}"
    yield own.training_how
    said = {key: values[key] for key in own.rows if values.get(key) is not None}
    yield table(own.columns, [(own.rows[key], str(value)) for key, value in said.items()])


def examples_words(subject: Subject, own: CardWords) -> str:
    """240 (152 of age 0, 88 of age 1)."""
    by_age = ", ".join(own.by_age.format(n=f"{n:,}", age=age) for age, n in sorted(subject.ages.items()))
    return f"{subject.version.examples:,}" + (f" ({by_age})" if by_age else "")


def lora_words(settings: Report) -> str | None:
    """32, 64."""
    return f"{settings['rank']}, {settings['alpha']}" if "rank" in settings else None


def certificate(subject: Subject, own: CardWords) -> Iterator[str]:
    """What the comparison of file and training found, a row a check."""
    found = subject.report["certificate"]
    yield f"## {own.certificate_heading}"
    if found is None:
        yield own.certificate_none
        return
    yield own.certificate_how
    if not found.get("passed"):
        yield own.certificate_failed.format(reasons="; ".join(found.get("reasons", ())))
    rows = [check_cells(own, name, found[name]) for name in own.checks if isinstance(found.get(name), dict)]
    yield table(own.certificate_columns, rows)
    yield own.kl


def check_cells(own: CardWords, name: str, section: Report) -> tuple[str, str, str]:
    """One check. A figure that a certificate does not have is a dash."""
    what, found = own.checks[name]
    figures = Dashes({key: figure(key, value, own) for key, value in section.items()})
    return what, found.format_map(figures), own.passed[bool(section.get("ok"))]


class Dashes(dict[str, str]):
    """Figures by name, with a dash for what is not there."""

    def __missing__(self, _: str) -> str:
        return "-"


def figure(key: str, value: Any, own: CardWords) -> str:
    """A figure of a certificate: shares as shares, the rest as it is."""
    if isinstance(value, bool):
        return own.passed[value]
    if isinstance(value, (int, float)) and key in SHARES:
        return f"{value:.1%}"
    return rounded(value) or "-" if isinstance(value, (float, type(None))) else str(value)


# What to be careful with


def limits(subject: Subject, own: CardWords, words: Words) -> Iterator[str]:
    """In plain words, only those that hold."""
    version, score = subject.version, subject.version.accuracy
    low, high = (percent(share) for share in score.interval)
    stage, description = stage_words(version.age, words)
    promised = (subject.report["certificate"] or {}).get("capabilities")
    holds = {"few": score.n > 0, "unmeasured": score.n == 0, "forgotten": len(subject.ages) > 1}
    holds["tools"] = promised is not None and "tools" not in promised
    said = [
        text.format(
            examples=f"{version.examples:,}",
            n=score.n,
            low=low,
            high=high,
            age=version.age,
            stage=stage,
            description=description,
            context=subject.context_tokens,
        )
        for name, text in own.limits.items()
        if holds.get(name, True)
    ]
    yield f"## {own.limits_heading}"
    yield "\n".join(f"- {each}" for each in said)


def files(subject: Subject, own: CardWords) -> Iterator[str]:
    """What lies here, so that it can be checked after a journey."""
    yield f"## {own.files_heading}"
    rows = [(f"`{each.name}`", f"{each.size_bytes:,}", code(each.sha256) or "-") for each in subject.files]
    yield table(own.files_columns, rows)


def licence(subject: Subject, own: CardWords) -> Iterator[str]:
    """Whose conditions hold."""
    base = base_name(subject.report["base"])
    yield f"## {own.licence_heading}"
    yield own.licence_nano if base == SHIPPED_NANO else own.licence.format(base=base)


def code(text: str | None) -> str | None:
    """As Markdown writes code."""
    return f"`{text}`" if text else None


def rounded(value: float | None) -> str | None:
    """Four digits that count."""
    return None if value is None else f"{value:.4g}"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell does not end it."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
