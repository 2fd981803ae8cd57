"""Codes of resources as numbers, and one name for each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gnnpatient.readers.fhir.elements import as_dict, as_dicts, as_text, one_line


@dataclass(eq=False)
class Concepts:
    """Numbers for codes, and one name for each: its most common display in the whole folder.

    Attributes
    ----------
    number : dict
        The number of each code, text, medicine or answer.
    displays : dict of int to Counter of str
        How often each display comes with a code.
    medicines : dict of str to int or None
        The code of each Medication, by its id; None = two of one id differ.
    """

    number: dict[tuple[Any, ...], int] = field(default_factory=dict)
    displays: dict[int, Counter[str]] = field(default_factory=dict)
    medicines: dict[str, int | None] = field(default_factory=dict)  # concept by id of a Medication

    def _of(self, *key: Any) -> int:
        return self.number.setdefault(key, len(self.number))

    def coded(self, system: object, code: str, display: object) -> int:
        """The number of a code.

        Parameters
        ----------
        system : object
            Its system, as a URL.
        code : str
            The code.
        display : object
            What it is called here.

        Returns
        -------
        int
            The same for the same system and code.
        """
        number = self._of("code", system if isinstance(system, str) else "", code)
        if isinstance(display, str):
            self.displays.setdefault(number, Counter())[display] += 1
        return number

    def of(self, concept: object, prefer: str) -> int | None:
        """The number of a CodeableConcept: its preferred coding that has a code, else its text.

        Parameters
        ----------
        concept : object
            The CodeableConcept.
        prefer : str
            The system that is preferred.

        Returns
        -------
        int or None
            None where it has neither.
        """
        concept = as_dict(concept)
        best, best_code = None, ""
        for coding in as_dicts(concept.get("coding")):
            system = coding.get("system")
            if (best is None or system == prefer) and (code := as_text(coding.get("code"))):
                best, best_code = coding, code
                if system == prefer:
                    break
        if best is not None:
            return self.coded(best.get("system"), best_code, best.get("display"))
        text = as_text(concept.get("text"))
        return None if text is None else self._of("text", text)

    def medicine(self, id: str) -> int:
        """The number of the code of a Medication that may be read later.

        Parameters
        ----------
        id : str
            Of the Medication.

        Returns
        -------
        int
            The number.
        """
        return self._of("medicine", id)

    def answer(self, concept: int | None, answer: int | None) -> int | None:
        """The number of a code whose value is a code.

        Parameters
        ----------
        concept : int or None
            The code.
        answer : int or None
            Its value; None = it is no code.

        Returns
        -------
        int or None
            That of both, or `concept`.
        """
        return concept if concept is None or answer is None else self._of("answer", concept, answer)

    def names(self) -> tuple[list[str | None], list[str]]:
        """What each number is called, once all is read.

        Returns
        -------
        names : list of str or None
            By number, without the type of resource in front; None = nothing names it.
        flags : list of str
            How many names two systems share.
        """
        names: list[str | None] = []
        short: list[str | None] = []
        shared: Counter[str] = Counter()
        for number, (kind, *key) in enumerate(self.number):
            name: str | None = None
            shown: str | None = None
            if kind == "code":
                name, shown = self._named_code(number, key[1])
                shared[name] += 1
            elif kind == "text":
                name = shown = one_line(key[0]) or None
            elif kind == "answer" and (question := names[key[0]]) is not None:
                name = f"{question}//{short[key[1]] or '?'}"
            names.append(name)
            short.append(shown)
        for (kind, *key), number in self.number.items():
            found = self.medicines.get(key[0]) if kind == "medicine" else None
            if found is not None:
                names[number] = names[found]
        several = sum(n > 1 for n in shared.values())
        return names, [f"{several} code(s) of two systems have one name"] * (several > 0)

    def _named_code(self, number: int, code: str) -> tuple[str, str]:
        """A code with its most common display, and that display; the code alone where it has none."""
        displays: Counter[str] = Counter()
        for display, n in self.displays.get(number, {}).items():
            displays[one_line(display)] += n
        del displays[""]
        shown = min(displays, key=lambda d: (-displays[d], d), default=None)
        code = one_line(code)
        return code if shown in (None, code) else f"{code} {shown}", shown or code
