"""How near the file's logits are to those of base plus adapter, and whether the change that the adapter made is there.

`top1`: the share of positions at which both have the same first choice. Where the reference's best two logits are
nearer than TIE, which float arithmetic may turn round, either of them counts. `kl`: KL(reference || file), nats, mean.
`share`: with b, m and g the logits of base, base plus adapter and file, each row less its mean,
<g - b, m - b> / <m - b, m - b> over all positions: 0 of a file without the adapter, 1 of one with it.

Some hundred positions are a sample: the bar is missed where more of them differ than it leaves, and more than chance
explains (`allowed`). What chance does is taken from how the texts differ among each other, for the positions of one
text are alike: a repetitive one meets the same near tie again and again (Cochran 1977, 2.11: the variance of a ratio).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from thaud.domain import ModelKind
from thaud.steps.certify.reference import Reference
from thaud.steps.contract import Emit
from thaud.steps.llama import LlamaModel

TIE = 1e-3
CHANCE = 2.0  # standard deviations
TOP1_BARS: Mapping[ModelKind, float] = {
    "f16": 0.995,
    "bf16": 0.985,
    "q8_0": 0.985,
    "q6_k": 0.96,
    "q5_k_m": 0.95,
    "q4_k_m": 0.92,
}
SHARE_BAR = 0.5
LEAST_CHANGE = 1e-6  # nats; float32 leaves some 1e-7, and below that nobody could tell that anything was learned


@dataclass
class Measured:
    """Sums over the positions so far; `texts`: (positions, differing) of each text. `wrong`: why there are none, where
    nothing could be compared.
    """

    positions: int = 0
    agreeing: int = 0
    kl: float = 0.0
    kl_from_base: float = 0.0
    along: float = 0.0
    change: float = 0.0
    wrong: str = ""
    texts: list[tuple[int, int]] = field(default_factory=list)

    def add(self, base: Tensor, adapted: Tensor, file: Tensor) -> None:
        """Take in some positions' logits, [positions, vocabulary] each."""
        self.positions += len(file)
        self.agreeing += int(agree(adapted, file).sum())
        wanted = log_softmax(adapted, dim=-1)
        self.kl += divergence(wanted, log_softmax(file, dim=-1))
        self.kl_from_base += divergence(log_softmax(base, dim=-1), wanted)
        change, found = centred(adapted - base), centred(file - base)
        self.along += float((change * found).sum(dtype=torch.float64))
        self.change += float((change * change).sum(dtype=torch.float64))

    @property
    def top1(self) -> float:
        """Share of positions with the same first choice."""
        return self.agreeing / self.positions

    @property
    def share(self) -> float:
        """How much of the adapter's change is in the file; 0 where it made none."""
        return self.along / self.change if self.change else 0.0


def agree(wanted: Tensor, found: Tensor) -> Tensor:
    """Per position, whether the first choices are the same, or the wanted one is a tie that holds the other."""
    best = wanted.topk(2, dim=-1)
    choice = found.argmax(dim=-1)
    tied = (best.values[:, 0] - best.values[:, 1]) < TIE
    return (choice == best.indices[:, 0]) | (tied & (choice == best.indices[:, 1]))


def divergence(true: Tensor, other: Tensor) -> float:
    """Summed KL(true || other) of log-probabilities, nats."""
    return float(kl_div(other, true, reduction="none", log_target=True).sum(dtype=torch.float64))


def centred(rows: Tensor) -> Tensor:
    """Each row less its mean: what is added to all logits of a position changes nothing."""
    return rows - rows.mean(dim=-1, keepdim=True)


def measure(reference: Reference, model: LlamaModel, rows: Sequence[Sequence[int]], say: Emit) -> Measured:
    """Go through all positions; what keeps them from being compared is in `wrong`."""
    measured = Measured()
    total, vocabulary = sum(map(len, rows)), reference.head.vocabulary
    if (served := model.vocabulary) != vocabulary:
        return Measured(wrong=f"the file has {served} tokens, the base {vocabulary}: it is of another model")
    with torch.inference_mode():
        for row in rows:
            before = measured.positions - measured.agreeing
            for block in model.logits(row):
                at = measured.positions
                base, adapted = reference.logits(at, at + len(block))
                measured.add(base, adapted, torch.from_numpy(block))
                say("check", last=measured.positions == total, what="logits", done=measured.positions, total=total)
            measured.texts.append((len(row), measured.positions - measured.agreeing - before))
    if not math.isfinite(measured.kl + measured.along):
        return Measured(wrong="the file's logits are no finite numbers: it is damaged")
    return measured


def allowed_differences(texts: Sequence[tuple[int, int]], bar: float) -> int:
    """How many positions of these texts may differ: what the bar leaves, and two standard deviations for chance.

    `texts`: (positions, differing) of each. The deviation is that of independent positions, or of texts, if larger.
    """
    positions, differing = sum(each[0] for each in texts), sum(each[1] for each in texts)
    alone = positions * bar * (1 - bar)
    by_text = sum((found - count * differing / positions) ** 2 for count, found in texts)
    return math.floor(positions * (1 - bar) + CHANCE * math.sqrt(max(alone, by_text)))


def fidelity_section(measured: Measured, kind: ModelKind) -> dict[str, Any]:
    """The certificate's section, but for where the positions come from."""
    bar = TOP1_BARS[kind]
    if measured.wrong:
        return {"ok": False, "positions": 0, "top1": 0.0, "bar": bar, "kl": None, "detail": measured.wrong}
    allowed = allowed_differences(measured.texts, bar)
    return {
        "ok": measured.positions - measured.agreeing <= allowed,
        "allowed": allowed,
        "positions": measured.positions,
        "top1": measured.top1,
        "bar": bar,
        "kl": max(0.0, measured.kl / measured.positions),
    }


def change_section(measured: Measured, of_weights: float | None) -> dict[str, Any]:
    """The certificate's section. Each share is to be within SHARE_BAR of 1: twice the change is not what was trained.

    That of the logits counts where the adapter moves them further than the rounding of the file's type does, and where
    there is no share of the weights (see inside.py).
    """
    if measured.wrong:
        return {"ok": False, "kl_from_base": None, "share": None, "share_of_weights": of_weights, "bar": SHARE_BAR}
    kl = max(0.0, measured.kl_from_base / measured.positions)
    told = measured.kl_from_base >= measured.kl or of_weights is None
    counted = [share for share in (of_weights, measured.share if told else None) if share is not None]
    return {
        "ok": kl > LEAST_CHANGE and all(abs(share - 1) <= SHARE_BAR for share in counted),
        "kl_from_base": kl,
        "share": measured.share,
        "share_of_weights": of_weights,
        "bar": SHARE_BAR,
    }
