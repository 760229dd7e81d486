"""nano, THAU's own base model: the facts it read, the datasets it is taught with, and the weights that ship.

Owns everything needed to rebuild `base/` and `data/datasets/` with one command each (`pretrain`, `datasets`).
Refuses to train a version (that is the train step's work) and to load anything when imported.
"""

from pathlib import Path

BASE_DIR = Path(__file__).parent / "base"
