"""A first draft of a spec from a folder of tables: what was found, why, and what only its owner can say.

Everything in it is a guess by names and by numbers, and the draft says so beside each one. Nothing of a
patient is written but codes and states, and words only where at least five patients share them. A file
imports only what comes before it: names, parts, sheets, patients, inputs, outcomes, formats, draft.
"""

from gnnpatient.propose.draft import propose
from gnnpatient.propose.parts import plain

__all__ = ["plain", "propose"]
