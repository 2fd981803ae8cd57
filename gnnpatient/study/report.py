"""A comparison beside what missing node types do to it: what `gnnpatient compare` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnnpatient.progress import Progress
from gnnpatient.study import compare
from gnnpatient.study.comparison import Comparison
from gnnpatient.study.missingness import missing_curve, pattern_only


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """A comparison, and what missing node types do to it.

    Attributes
    ----------
    comparison : Comparison
        The figures of every model, and the verdict.
    missing : list of dict
        How the model's figures fall where a node type is removed from a share of the patients, a row each.
    pattern : list of dict
        How much of the model's gain missingness alone has, a row a metric.
    """

    comparison: Comparison
    missing: list[dict[str, Any]]
    pattern: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, as `gnnpatient compare --json` prints it.

        Returns
        -------
        dict
        """
        return {**self.comparison.to_dict(), "missing": self.missing, "pattern": self.pattern}


def compare_report(
    path: str | Path,
    outcome: str,
    folds: Path | None = None,
    progress: Progress | bool | None = None,
    missing: Sequence[str] = (),
    **choices: Any,
) -> ComparisonReport:
    """Compare what each node type, and all of them together, forecast on a packed cohort.

    Parameters
    ----------
    path : str or Path
        Folder of the cohort.
    outcome : str
    folds : Path, optional
        File of folds (repeat, fold, id); default five folds by patient.
    progress : Progress or bool, optional
        Called after each fit; True for bars.
    missing : sequence of str
        Node types that are removed from more and more patients.
    **choices
        members, epochs, seed: the same for every model; to: when a value is asked for; budget: seconds that
        it may take; rivals and configurations, as of `gnnpatient.study.compare.compare`.

    Returns
    -------
    ComparisonReport

    Raises
    ------
    InputError
        When the cohort has no such outcome or node type, or the folds do not fit it.
    """
    found = compare.run_compare(Path(path), outcome, folds, progress, missing, **choices)
    curve = [row for kind in missing for row in missing_curve(found, kind)]
    return ComparisonReport(found, curve, pattern_only(found))
