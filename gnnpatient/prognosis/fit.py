"""From training landmarks to fitted families and their weights: each member leaves out one inner fold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from gnnpatient.cohort.build import build_graphs
from gnnpatient.cohort.cohort import Landmarks
from gnnpatient.model.basis import fit_bases
from gnnpatient.model.heads import HeadConfig
from gnnpatient.model.model import ModelConfig
from gnnpatient.model.vocabulary import fit_vocabulary
from gnnpatient.prognosis.calibrate import calibrate, calibration_rows
from gnnpatient.prognosis.conformal import Calibration
from gnnpatient.prognosis.device import deterministic, resolve_device
from gnnpatient.prognosis.families import FAMILIES
from gnnpatient.prognosis.inputs import last_landmarks
from gnnpatient.prognosis.marginal import at_landmarks, landmark_marginals, overall_marginal
from gnnpatient.prognosis.predictor import CHUNK, probabilities
from gnnpatient.prognosis.problem import Family, FitConfig, Problem, draw_landmarks
from gnnpatient.prognosis.stack import (
    GRAPH,
    MARGINAL,
    MIN_EVENT_PATIENTS,
    Stack,
    fit_stack,
    plain_weights,
    too_few,
)
from gnnpatient.prognosis.states import State, read_checkpoint, write_state
from gnnpatient.prognosis.targets import Target
from gnnpatient.progress import Progress

MAX_OUT_OF_FOLD = 20_000  # landmarks of which every family is asked to learn the weights
MAX_PER_PATIENT = 16  # of them: a patient counts once, however many


def pose(
    landmarks: Landmarks,
    targets: Mapping[str, Target],
    heads: Mapping[str, HeadConfig],
    model: ModelConfig,
    config: FitConfig,
    device: str = "auto",
    run: Path | None = None,
    progress: Progress | None = None,
    weight: np.ndarray | None = None,
) -> Problem:
    """Learn names and scales from training landmarks, and state what the families have to learn.

    Parameters
    ----------
    landmarks : Landmarks
        The training landmarks, as the model sees them.
    targets : mapping of str to Target
        What came of each landmark, by outcome.
    heads : mapping of str to HeadConfig
        What is predicted, by outcome.
    model : ModelConfig
        Size and kind of the network.
    config : FitConfig
        How it is trained.
    device : str
        Where to compute, see `resolve_device`; default ``"auto"``.
    run : Path, optional
        Folder of the checkpoints; a fit that stopped there goes on.
    progress : Progress, optional
        Called after each step.
    weight : ndarray, optional
        What each landmark counts beside the others, (landmark,) float64; default: all alike.

    Returns
    -------
    Problem
    """
    where = resolve_device(device)
    if progress:
        progress("landmarks", len(landmarks), len(landmarks))
    graphs = build_graphs(last_landmarks(landmarks))
    bases = fit_bases(graphs, config.min_patients)
    vocabulary = fit_vocabulary(graphs, bases, config.min_patients)
    if progress:
        progress("names and scales", 1, 1)
    return Problem(landmarks, targets, heads, vocabulary, bases, model, config, where, run, progress, weight)


def fit_families(problem: Problem, names: Collection[str]) -> dict[str, Family]:
    """Fit families of models; one that a stopped fit had finished is read from its folder.

    Parameters
    ----------
    problem : Problem
        What there is to learn from.
    names : collection of str
        Keys of `FAMILIES`.

    Returns
    -------
    dict of str to Family
        In the order of `FAMILIES`.

    Raises
    ------
    InputError
        When there are fewer than two patients or groups, a loss is not finite, or the checkpoints are of
        another fit.
    """
    _ = problem.folds  # too few patients are refused before anything is fitted
    with deterministic(problem.device):
        return {name: _family(problem, name) for name in FAMILIES if name in names}


def _family(problem: Problem, name: str) -> Family:
    path = None if problem.run is None else problem.run / "checkpoints" / f"{name}.safetensors"
    if path is not None and path.is_file():
        state = read_checkpoint(path, problem.fingerprint)
        known = problem.vocabulary, problem.bases, problem.heads, problem.model.own
        return FAMILIES[name].load(state.facts["family"], state.tensors, *known)
    family = FAMILIES[name].fit(problem)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_state(path, State(family.tensors(), {"fit": problem.fingerprint, "family": family.facts()}))
    return family


def foreseen(problem: Problem, names: Collection[str]) -> list[str]:
    """Say before the fit where the weights of the families will not be learned: the counts are known.

    Parameters
    ----------
    problem : Problem
        What there is to learn from.
    names : collection of str
        Keys of `FAMILIES`.

    Returns
    -------
    list of str
        A sentence an outcome; empty where weights are learned, or there is one family alone.
    """
    weights = plain_weights([name for name in FAMILIES if name in names])
    if len(weights) < 2:
        return []
    rows, lines = np.concatenate(_out_of_fold(problem)), []
    shown = "; the graph is fitted to be shown alone" if weights.get(GRAPH) == 0 else ""
    for name, target in problem.targets.items():
        event = target.has_event(problem.heads[name].times)
        patients = len(np.unique(problem.landmarks.patient[rows[event[rows]]]))
        if patients < MIN_EVENT_PATIENTS:
            why = too_few(weights, patients, problem.config.members, target.TEACHING)
            lines.append(f"{name}: the weights of the families will not be learned: {why}{shown}")
    return lines


def _out_of_fold(problem: Problem) -> list[np.ndarray]:
    """The landmarks that the weights are learned from, of each member."""
    return [_drawn(problem, member) for member in range(min(problem.config.members, len(problem.folds)))]


def fit_stacks(
    problem: Problem, families: Mapping[str, Family]
) -> tuple[dict[str, Stack], dict[str, Calibration]]:
    """Learn how much of the answer each family gives, from what each member says of its held-out patients.

    Parameters
    ----------
    problem : Problem
        What the families were fitted on.
    families : mapping of str to Family
        From `fit_families`.

    Returns
    -------
    tuple of dict
        By outcome the weights; and how surprising what came was to members, and under weights, that had not
        seen the patient, where enough were held out to say it.
    """
    config = problem.config
    rows = _out_of_fold(problem)
    asked, every = np.concatenate(rows), len(np.concatenate(rows))
    units = problem.units(np.arange(len(problem.landmarks)))
    each = (*families, MARGINAL)
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    kept: dict[str, dict[str, list[np.ndarray]]] = {}
    for name, head in problem.heads.items():
        shape = problem.targets[name].importance(head.times).shape[1:]
        found[name] = {one: [np.ones((0, *shape))] for one in each}
        kept[name] = {one: [np.zeros((0, *head.shape))] for one in each}
    scored = {name: calibration_rows(problem, name, asked) for name in problem.heads}
    done = 0
    for one in families.values():
        one.to(problem.device)
    with deterministic(problem.device), torch.inference_mode():
        for member, mine in enumerate(rows):
            tables = _marginals(problem, member)
            for begin in range(0, len(mine), CHUNK):
                chunk = mine[begin : begin + CHUNK]
                X = problem.landmarks[chunk]
                graphs = build_graphs(X)
                answers = {one: family.forecast(graphs, [member]) for one, family in families.items()}
                for name, head in problem.heads.items():
                    target = problem.targets[name][chunk]
                    said = {one: probabilities(a[name], head)[0] for one, a in answers.items()}
                    said[MARGINAL] = at_landmarks(X, *tables[name])
                    first, end = np.searchsorted(scored[name].place, [done, done + len(chunk)])
                    mine_here = scored[name].place[first:end] - done
                    for which, prediction in said.items():
                        found[name][which].append(target.likelihood(prediction, head.times))
                        kept[name][which].append(prediction[mine_here])
                done += len(chunk)
                if problem.progress:
                    problem.progress("weights of the families", done, every)
    stacks, calibrations = {}, {}
    for name, target in problem.targets.items():
        times = problem.heads[name].times
        likelihood = {one: np.concatenate(parts) for one, parts in found[name].items()}
        things = int(np.prod(likelihood[MARGINAL].shape[1:]))  # that are seen of a landmark
        row = np.repeat(asked, things)
        share = target.importance(times)[asked].ravel()
        apart = dict[int, dict[str, float]]()
        stacks[name] = fit_stack(
            {one: of.ravel() for one, of in likelihood.items()},
            problem.landmarks.patient[row],
            share if problem.weight is None else share * problem.weight[row],
            target.has_event(times)[row],
            unit=units[row],
            causes=_causes(target, times, row),
            seed=config.seed,
            least=config.min_patients,
            apart=apart,
        )
        patients = problem.landmarks.patient[asked[scored[name].place]].tolist()
        weights = [apart.get(one, stacks[name].weights) for one in patients]
        mixed = sum(
            np.array([w.get(one, 0.0) for w in weights]).reshape(-1, *(1,) * len(problem.heads[name].shape))
            * np.concatenate(parts)
            for one, parts in kept[name].items()
        )
        made = calibrate(problem, name, scored[name], asked, np.asarray(mixed))
        if made is not None:
            calibrations[name] = made
    return stacks, calibrations


def _causes(target: Target, times: tuple[float, ...], rows: np.ndarray) -> dict[str, np.ndarray]:
    """By cause, or class but the commonest, which of some landmarks show it by the last time."""
    event = target.has_event(times)
    each = {name: had & event for name, had in target.counts.items()}
    return {name: had[rows] for name, had in each.items() if had.any()}


def _drawn(problem: Problem, member: int) -> np.ndarray:
    """Landmarks that a member held out, 16 a patient and its share of 20 000 at most."""
    rows, rng = problem.held_out(member), np.random.default_rng([problem.config.seed, member])
    most = MAX_OUT_OF_FOLD // min(problem.config.members, len(problem.folds))
    return rows[draw_landmarks(problem.landmarks.patient[rows], MAX_PER_PATIENT, most, rng)[0]]


def _marginals(
    problem: Problem, member: int
) -> dict[str, tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]]:
    """By outcome the forecast without inputs of what a member learned from."""
    rows, least = problem.train(member), problem.config.min_patients
    X = problem.landmarks[rows]
    return {
        name: (
            overall_marginal(target[rows], X, problem.heads[name].times, least),
            landmark_marginals(target[rows], X, problem.heads[name].times, least),
        )
        for name, target in problem.targets.items()
    }
