"""Fit a model in a run of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gnnpatient.cli.console import CohortPath, days, moments, note, say
from gnnpatient.errors import InputError
from gnnpatient.progress import Bars

if TYPE_CHECKING:
    from gnnpatient.prognosis.run import Run


def fit(
    cohort: CohortPath,
    out: Annotated[Path, typer.Option("--out", help="folder of the run")],
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="name of an outcome; may be repeated [default: all of survival and diagnosis]"),
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(
            help="random, or entry,1y,3y [default: random: entry and many times after it; entry alone where "
            "nothing becomes known after it]"
        ),
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="share of the patients to hold out [default: 0.2]")
    ] = None,
    test_by: Annotated[str | None, typer.Option(help="hold out group=VALUE, or after=DATE by day 0")] = None,
    horizon: Annotated[
        str | None, typer.Option(help="how far it forecasts [default: as far as can be scored]")
    ] = None,
    family: Annotated[
        list[str] | None,
        typer.Option(help="of linear,boosted,graph; may be repeated [default: all three, stacked]"),
    ] = None,
    members: Annotated[int | None, typer.Option(help="how often each family is fitted [default: 5]")] = None,
    epochs: Annotated[int | None, typer.Option(help="of each network, at most [default: 30]")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="groups that count alike: a category, group, or a number that is the weight"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="of all that is drawn at random [default: 0]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    config: Annotated[
        Path | None, typer.Option(help="choices as [train] of a .toml; options here win")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the fit that stopped in --out")] = False,
) -> None:
    """Train a model on a part of the cohort, in a folder of its own. It can be stopped and resumed."""
    options = {
        "outcomes": outcome or None,
        "landmarks": landmarks,
        "test": test,
        "test_by": test_by,
        "horizon": horizon,
        "families": [name.strip() for names in family for name in names.split(",")] if family else None,
        "members": members,
        "epochs": epochs,
        "weights": weights,
        "seed": seed,
    }
    choices = (read_config(config) if config else {}) | {k: v for k, v in options.items() if v is not None}
    fit_cohort(cohort, out, choices, device=device, resume=resume)


def fit_cohort(
    cohort: Path, out: Path, choices: Mapping[str, Any], *, device: str = "auto", resume: bool = False
) -> Run:
    """Fit a packed cohort into a folder, and print what was done.

    Parameters
    ----------
    cohort : Path
    out : Path
        Folder of the run.
    choices : mapping
        Keys of `gnnpatient.prognosis.run.PLAN`; horizon and landmarks may be text of the command line.
    device : str, default "auto"
    resume : bool, default False
        Continue the fit that stopped in `out`.

    Returns
    -------
    Run
    """
    from gnnpatient.cohort.cohort import open_cohort
    from gnnpatient.study.check import fit_notes, unused_notes

    opened, choices = open_cohort(cohort), _in_days(choices)
    # An outcome that is not there is refused before torch is loaded.
    opened.outcomes_with_model(choices.get("outcomes"))
    from gnnpatient.prognosis.run import fit_run

    ready = resume and (out / "model" / "config.json").is_file()
    all_outcomes = choices.get("outcomes") is None and not (out / "run.json").is_file()
    for line in fit_notes(opened, all_outcomes=all_outcomes) + unused_notes(opened, choices):
        note(line)
    with Bars() as progress:
        run = fit_run(opened, out, choices, device=device, resume=resume, progress=progress)
    done = "was finished already" if ready else "finished"
    say(f"{out}: {done}; fitted on {len(run.train)} patients, {len(run.test)} held out")
    return run


def _in_days(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The same with horizon and landmarks as days."""
    horizon, landmarks = choices.get("horizon"), choices.get("landmarks", "random")
    out = dict(choices)
    if isinstance(horizon, str):
        out["horizon"] = days(horizon)
    if landmarks != "random":
        out["landmarks"] = moments(landmarks)
    return out


def read_config(path: Path) -> dict[str, Any]:
    """Read the choices of a fit from a .toml.

    Parameters
    ----------
    path : Path
        Its table `[train]` has the arguments of PrognosisModel, and landmarks, test and test_by as on the
        command line.

    Returns
    -------
    dict
        What is chosen there, by name.

    Raises
    ------
    InputError
        When it is no .toml, or has an unknown key or a value of another type.
    """
    import tomllib
    from typing import get_type_hints

    from pydantic import ValidationError, create_model

    from gnnpatient.prognosis.estimator import PrognosisModel
    from gnnpatient.prognosis.run import CHOICES
    from gnnpatient.spec.explain import explain
    from gnnpatient.spec.tables import Names, Record

    if path.suffix != ".toml":
        raise InputError(f"{path}: only a .toml file is read")
    hints = get_type_hints(PrognosisModel.__init__)
    fields: dict[str, Any] = {name: (hints[name], default) for name, default in CHOICES.items()}
    fields |= {name: (Names | None, None) for name in ("outcomes", "kinds", "relations")}
    fields |= {"families": (Names, tuple(CHOICES["families"])), "conv": (str, CHOICES["conv"])}
    fields |= {"horizon": (float | str | None, None), "landmarks": (str, "random")}
    fields |= {"test": (float, 0.2), "test_by": (str | None, None)}
    train = create_model("Train", __base__=Record, **fields)
    config_type = create_model("Config", __base__=Record, train=(train, ...))
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, instead in GONE.items():
            if isinstance(read.get("train"), dict) and name in read["train"]:
                raise InputError(f"{path}: train.{name} is of the last release; {instead}")
        content = config_type.model_validate(read)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, config_type)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: {error}") from None
    found = content.train.model_dump(exclude_unset=True)  # type: ignore[attr-defined]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


# keys of [train] in the last release, and what to do instead
GONE = {
    "linear": 'write families = ["graph"] for linear = false, else leave it out',
    "ridge": "it is chosen on inner folds: leave it out",
}
COMMANDS = (fit,)
