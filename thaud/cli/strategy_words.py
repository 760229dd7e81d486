"""How a run was trained, and why so, in Spanish and in English. The reasons are strategy.py's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaud import strategy
from thaud.words import ES as SPANISH
from thaud.words import Words, said_in


@dataclass(frozen=True, slots=True)
class StrategyWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in. `reasons`: by the English."""

    fresh: str
    continued: str
    because: str
    reasons: Mapping[str, str]


ES = StrategyWords(
    fresh="desde cero",
    continued="sobre v{parent}",
    because="Se entrena {how}: {reason}",
    reasons={
        strategy.ASKED_FOR: "así lo pide training.strategy",
        strategy.CHEAP: "empezar desde cero cabe en el presupuesto",
        strategy.DEAR: "empezar desde cero no cabe en el presupuesto",
        strategy.UNKNOWN: "ningún entrenamiento ha dicho aún cuánto lleva empezar desde cero",
        strategy.NO_CHAMPION: "no hay ninguna versión que continuar",
        strategy.NOTHING_NEW: "no hay nada que {champion} no haya aprendido ya",
        strategy.REBASED: "{n} versiones seguidas continuaron la anterior (training.rebase_every = {every})",
        strategy.ADAPTER_GONE: "falta el adaptador de {champion}",
        strategy.ADAPTER_DAMAGED: "el adaptador de {champion} está dañado",
        strategy.OTHER_BASE: "{champion} parte de otra base",
        strategy.OTHER_SHAPE: "{champion} tiene rank {rank} y alpha {alpha}, no {other_rank} y {other_alpha}",
        strategy.FIGURES: (
            "desde cero lleva unos {minutes} min, el presupuesto es {budget} ({examples} ejemplos x {epochs} épocas x"
            " {tokens} tokens, {speed} tokens/s en {run})"
        ),
    },
)

EN = StrategyWords(
    fresh="afresh",
    continued="on v{parent}",
    because="Trained {how}: {reason}",
    reasons={},
)


def strategy_words(words: Words) -> StrategyWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN


def strategy_text(report: Mapping[str, Any], words: StrategyWords) -> str:
    """How, in short: afresh, or on which version. `report` is status.report_run's or report_version's."""
    if report.get("strategy") == "continue":
        return words.continued.format(parent=report["parent"])
    return words.fresh


def strategy_sentence(report: Mapping[str, Any], words: StrategyWords) -> str:
    """How, and why. Runs from before there was a choice have no reason."""
    reason = "; ".join(said_in(words.reasons, part) for part in report["strategy_reason"].split("; "))
    how = strategy_text(report, words)
    return words.because.format(how=how, reason=reason) if reason else how
