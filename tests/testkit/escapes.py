"""The escape suite's table: where it is kept until the end, in the process that prints it."""

import pytest

ESCAPES = pytest.StashKey[list[str]]()
