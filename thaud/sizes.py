"""The table of model sizes: which base each stands for, and how it is trained.

Owns names and defaults; refuses the network: finding the base on disk or on the hub is bases.py's in the steps package.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thaud.domain import Strategy
from thaud.errors import UnknownSizeError

SHIPPED_NANO = "nano"
CONTINUED = 0.25  # of the learning rate: what is known already should move little


@dataclass(frozen=True, slots=True)
class Size:
    """A model size. `learning_rate` is a new adapter's; `epochs` maps a stage's age to passes over its examples."""

    name: str
    base: str
    learning_rate: float
    epochs: Mapping[int, int]

    def rate(self, strategy: Strategy) -> float:
        """The learning rate where nobody has set one."""
        return self.learning_rate * (CONTINUED if strategy == "continue" else 1)


# Few examples need many passes and little noise; from a thousand on, three passes are what LoRA studies use
# (Dettmers et al. 2023, table 9; Biderman et al. 2024).
NANO_EPOCHS = {0: 15, 1: 10, 3: 8, 6: 5, 11: 4, 13: 3, 15: 3}
HUB_EPOCHS = {0: 6, 1: 5, 3: 4, 6: 3, 11: 3, 13: 2, 15: 2}

SIZES: Mapping[str, Size] = {
    "nano": Size("nano", SHIPPED_NANO, 2e-3, NANO_EPOCHS),
    "0.5b": Size("0.5b", "Qwen/Qwen2.5-0.5B-Instruct", 2e-4, HUB_EPOCHS),
    "1.5b": Size("1.5b", "Qwen/Qwen2.5-1.5B-Instruct", 2e-4, HUB_EPOCHS),
    "3b": Size("3b", "Qwen/Qwen2.5-3B-Instruct", 2e-4, HUB_EPOCHS),
    "7b": Size("7b", "Qwen/Qwen2.5-7B-Instruct", 2e-4, HUB_EPOCHS),
}


def find_size(name: str) -> Size:
    """Look a size up. Raises UnknownSizeError with the sizes there are."""
    try:
        return SIZES[name]
    except KeyError:
        raise UnknownSizeError(f"unknown size {name!r}: choose one of {', '.join(SIZES)}") from None
