"""The model card: what a model forecasts, what it was fitted on, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnnpatient.model.layers import LAYERS
from gnnpatient.prognosis.kinds import KINDS
from gnnpatient.prognosis.stack import GRAPH, Stack
from gnnpatient.show import counted, listed

TOGETHER = {"stack": "together", "without_graph": "together, without the graph"}


def card(config: Mapping[str, Any]) -> str:
    """Write the README.md of a saved model.

    Parameters
    ----------
    config : mapping
        The content of its config.json.

    Returns
    -------
    str
        Markdown.
    """
    about, model = config["about"], config["model"]
    lines = [
        f"# A gnnpatient model: {', '.join(model['heads'])}",
        "",
        "Research use only. Not a medical device.",
        "",
        "## Forecasts",
        "",
    ]
    for name, head in model["heads"].items():
        lines.append(f"- `{name}`: {KINDS[head['kind']].forecast.summary(head)}")
    lines += [
        "",
        "Bands between members are *model spread*: what refitting changes, not what may happen to a patient.",
        "A changed input shows how the model reacts, not what a treatment does.",
        "",
        "## Fitted on",
        "",
        f"Cohort `{about.get('cohort', '?')}` (spec {str(about.get('spec_hash', '?'))[:12]}): "
        f"{about.get('patients', '?')} patients, {about.get('asks', '?')} landmarks.",
    ]
    if (least := config["choices"].get("min_patients", 1)) > 1:
        lines += [
            f"Counts are rounded to multiples of {least}; no name, scale, time or count in this folder is of",
            f"fewer than {least} patients, and rarer codes and levels share one name. The weights are not",
            "proven to protect patients: who has them may guess better than by chance who was trained on.",
            "",
        ]
        if isinstance(about.get("patients"), str):
            lines += ["These are too few: no code, level or value of theirs was learned.", ""]
    for name, counts in about.get("events", {}).items():
        of = KINDS[model["heads"][name]["kind"]].target.COUNTED
        lines.append(f"- `{name}`: " + ", ".join(f"{n} patients {of} {cause}" for cause, n in counts.items()))
    seen = model["vocabulary"]["codes"]
    lines += ["", "## Sees", ""]
    shown = {
        kind: names for kind, names in seen.items() if config["kinds"] is None or kind in config["kinds"]
    }
    lines += [f"- {kind}: {counted(len(names) - 1, 'code')}" for kind, names in shown.items()]
    statics = [*model["vocabulary"]["numbers"], *model["vocabulary"]["levels"]]
    lines += [f"- patient: {', '.join(statics) or 'nothing but the time since the origin'}"]
    lines += ["", "## Who answers", ""]
    members = counted(config["members"], "member")
    each = " each" if len(model["families"]) > 1 else ""
    lines += [
        f"{listed(list(model['families']))}, {members}{each}. Each member leaves out one inner fold of the "
        "patients, and is scored on it."
    ]
    own = _own_classes(config)
    for what, name in own.items():
        lines += [
            "",
            f"{what} is `{name}`, a class that is not in this folder: whoever loads the model "
            "has to have it.",
        ]
    for name, content in model["stacks"].items():
        stack = Stack(**content)
        lines += [
            "",
            f"`{name}`",
            "",
            "| | weight | log-likelihood a patient, out of fold |",
            "|---|---|---|",
        ]
        for one, words in {**{one: one for one in stack.weights}, **TOGETHER}.items():
            if one in stack.weights or one in stack.log_likelihood:
                score = f"{stack.log_likelihood[one]:.4f}" if one in stack.log_likelihood else ""
                lines.append(f"| {words} | {stack.weights.get(one, '')} | {score} |")
        if said := stack.sentences(config["members"], KINDS[model["heads"][name]["kind"]].target.TEACHING):
            lines += ["", *said]
    mapping = ", ".join(f'"{name}": {name}' for name in dict.fromkeys(own.values()))
    give = f", layers={{{mapping}}}" if own else ""
    lines += [
        "",
        f"Load it with `PrognosisModel.from_pretrained(folder{give})`; `load_predictor(folder{give})`.",
        "",
    ]
    return "\n".join(lines)


def _own_classes(config: Mapping[str, Any]) -> dict[str, str]:
    """By what it is, the name of each class of the user's own that the network has."""
    if GRAPH not in config["model"]["families"]:
        return {}
    conv, encoders = (config["choices"].get(name) for name in ("conv", "encoders"))
    layer = {"The layer of the graph": conv} if conv and conv not in LAYERS else {}
    return layer | {f"The encoder of `{kind}`": name for kind, name in (encoders or {}).items()}
