"""`ward`: a simulated cohort with a known truth, to compare what a model finds with.

Tables as a hospital keeps them, radiograph-like images with a lesion, reports, and every patient's true risk.
Daily hazards of death are log-linear in four things, each shown by another node type:

    growth      of the lesion, in standard deviations: two images show it, one says next to nothing
    drug        metformin, only while it runs and only where lactate is high: neither alone says much
    finding     a pleural effusion: in no image; reports state it, or deny it, or are silent at random
    age         a little

Discharge alive competes, its hazards fall as those of death rise. The sicker are seen, drawn and imaged more
often, and lack a node type a little less often. Transfer to another house ends observation: it depends on
lactate and age, which are measured, so that censoring is at random given them and not without them.

The negative control keeps every marginal of what is written about a patient but has nothing to fuse: there
death depends on age and on one node type alone, high lactate, and the rates of visits and the gaps are
another patient's. Effects of two node types, even without a product, would make all together better than the
best one.

The numbers in `hazards` were set before any model was fitted, and are frozen. With them, forecasting on day 5
death within 30 days, 24 in 100 die and 63 are discharged in that time (negative control: 30 and 55), and C of
the true risk given what some node types show is, as mean over ten cohorts of 2 000 patients (seeds 100 to
109, sd .01):

            all   image   lab    note   drug   lab and drug   age alone   all but: image   lab    note   drug
    ward    .831  .667    .648   .641   .590   .683           .536                 .754    .755   .766   .796
    control .738  .561    .738   .561   .561   .738           .561                 .738    .561   .738   .738

Where `missing` is .3 no model can reach the first column: what is written down gives .771 (negative control
.710). With nothing missing, boosted trees given growth and product reach .825 of .833, given their parts
.810; the best node type alone has .673 (n = 4 000, seeds 1 to 3). Counts of visits have .56, the size in the
last image .55.
"""

from __future__ import annotations

import warnings
from typing import Any

from gnnpatient.datasets.ward.truth import SimulatedTruth
from gnnpatient.datasets.ward.write import write_ward

__all__ = ["SimulatedTruth", "write_ward"]


def __getattr__(name: str) -> Any:
    if name == "Truth":
        warnings.warn("ward.Truth is now ward.SimulatedTruth", DeprecationWarning, stacklevel=2)
        return SimulatedTruth
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
