"""A first draft of a spec from a folder of tables: what was found, why, and what only its owner can answer.

Everything in it is a guess by names and by numbers, and each guess has its reason beside it. Of patients only
codes and states are written, and words only where at least five patients share them.
"""

from gnnpatient.propose.draft import propose
from gnnpatient.propose.parts import plain

__all__ = ["plain", "propose"]
