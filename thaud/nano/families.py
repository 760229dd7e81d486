"""Every fact family, in one tuple.

Owns the order of the families, which fixes the order of the datasets' lines. Refuses anything else.
"""

from typing import Final

from thaud.nano.facts import Family
from thaud.nano.families_en import ENGLISH
from thaud.nano.families_es_ideas import IDEAS
from thaud.nano.families_es_things import THINGS
from thaud.nano.families_es_world import WORLD

FAMILIES: Final[tuple[Family, ...]] = THINGS + IDEAS + WORLD + ENGLISH
