"""When a training has diverged: its loss went up, far, and stays there. Pure.

A criterion on single losses would stop sound runs: batches differ, and one hard batch says nothing. So it wants all of
the last LONG losses far above what the training has already shown that it can hold: the highest of some consecutive
steps, where that was lowest. Such a stretch has to be long too, or luck makes it: of losses that are 0 half the time
and 3 otherwise, 16 in a row are low once in 65,000 steps, 32 in a row are high once in four thousand million.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

FIRST = 4  # steps whose loss is the base's: the rate has hardly begun to rise
HELD = 16
LONG = 32
FAR, MARGIN = 1.5, 1.0  # what was held, times the one, plus the other in nats


class Watch:
    """Follows a training's losses, in nats a supervised token."""

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=LONG)
        self.seen = 0
        self.held: float | None = None

    @property
    def bound(self) -> float | None:
        """What the last losses have to be above; None while nothing has been held for long enough."""
        return None if self.held is None else FAR * self.held + MARGIN

    def has_diverged(self, loss: float) -> bool:
        """Add a step's loss; whether the training has diverged with it."""
        self.losses.append(loss)
        self.seen += 1
        if self.seen == FIRST:
            self.hold(self.losses)
        if self.seen >= HELD:
            self.hold(list(self.losses)[-HELD:])
        return self.seen > LONG and self.bound is not None and min(self.losses) > self.bound

    def hold(self, losses: Iterable[float]) -> None:
        """No loss of a stretch was higher than this."""
        highest = max(losses)
        self.held = highest if self.held is None else min(self.held, highest)

    def state(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"losses": list(self.losses), "seen": self.seen, "held": self.held}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where a state was taken."""
        self.losses.clear()
        self.losses.extend(state["losses"])
        self.seen, self.held = state["seen"], state["held"]
