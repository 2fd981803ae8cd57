"""What a reader of FHIR noticed on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(eq=False)
class Notes:
    """Counts and flags of one folder; every part of the reader adds to them.

    Attributes
    ----------
    count : Counter of str
        Of each thing that happened, how often.
    flags : list of str
        What was noticed, in whole sentences.
    decides : list of str
        Those of the flags that may decide a result.
    """

    count: Counter[str] = field(default_factory=Counter)  # of each thing that happened, how often
    flags: list[str] = field(default_factory=list)
    decides: list[str] = field(default_factory=list)  # those of the flags that may decide a result
