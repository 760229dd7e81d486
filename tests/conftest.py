"""What every test shares: Ctrl-C as on a terminal, and Hypothesis without luck and without a clock."""

import signal

from hypothesis import settings

# A shell ignores SIGINT for what it starts in the background, and children inherit that: tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases each time, so that a failure is the change's and not the day's; no deadlines on noisy machines.
settings.register_profile("thau", derandomize=True, deadline=None)
settings.load_profile("thau")
