"""Successive halving decides which candidates are trained and for how long, with one Optuna trial per candidate.

Each rung of a trial is a run that continues the previous one; Optuna's pruner decides after each whether there is a
next one. The study is stored in one SQLite file, which only this process writes and Optuna's dashboard can open.

Source: Li et al. 2020, ASHA, https://arxiv.org/abs/1810.05934.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolo_lite.choose.schedule import REDUCTION

if TYPE_CHECKING:
    import optuna

NAME = "choose"
Parts = Mapping[str, str | int | float]  # fields of a candidate; all candidates have the same keys


@dataclass(frozen=True)
class Step:
    """Next run of a candidate.

    Attributes:
        trial: Number of the trial.
        candidate: Label of the candidate.
        done: Number of epochs trained before the step.
        epochs: Total number of epochs after the step.
    """

    trial: int
    candidate: str
    done: int
    epochs: int


class Search:
    """State of a search.

    Args:
        candidates: Fields of each candidate, by label, in the order in which they are to be tried.
        rungs: Epochs after which candidates are compared, each about `REDUCTION` times the one before.
        first: Number of candidates that are tried in the given order; the sampler chooses the others.
        storage: Optuna storage; None for one in memory.
        seed: Random seed of the sampler.
    """

    def __init__(
        self, candidates: Mapping[str, Parts], rungs: Sequence[int], first: int, storage: Any = None, seed: int = 0
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.rungs, self.candidates, self.random = list(rungs), dict(candidates), random.Random(seed)
        self.values = {
            key: list(dict.fromkeys(parts[key] for parts in candidates.values()))
            for key in next(iter(candidates.values()))
        }
        self.study = optuna.create_study(
            storage=storage,
            study_name=NAME,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=rungs[0], reduction_factor=REDUCTION),
            load_if_exists=True,
        )
        self.waiting: list[optuna.Trial] = []  # trials that continue, those with most epochs last
        began = self.study.get_trials(deepcopy=False)
        for trial in began:
            if trial.state == optuna.trial.TrialState.RUNNING:  # trial of a command that was killed
                if "candidate" not in trial.user_attrs or "failed" in trial.user_attrs:
                    self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                else:
                    self._decide(optuna.Trial(self.study, trial._trial_id))
        if not began:
            for parts in list(self.candidates.values())[:first]:
                self.study.enqueue_trial(dict(parts))
        self.working: dict[int, optuna.Trial] = {}

    @property
    def untried(self) -> list[str]:
        """Labels of the candidates that have had no trial yet."""
        tried = {trial.user_attrs.get("candidate") for trial in self.study.get_trials(deepcopy=False)}
        return [label for label in self.candidates if label not in tried]

    def next(self, new: bool = True) -> Step | None:
        """Return the next step, continuing trials before starting new ones; None if there is none.

        Args:
            new: Whether a new candidate may be started.
        """
        if self.waiting:
            trial = self.waiting.pop()
        else:
            untried = self.untried if new else []
            if not untried:
                return None
            trial = self.study.ask()
            wanted: dict[str, Any] = {
                key: trial.suggest_categorical(key, values) for key, values in self.values.items()
            }
            trial.set_user_attr("candidate", self._nearest(wanted, untried))
        self.working[trial.number] = trial
        done = _done(trial)
        return Step(trial.number, trial.user_attrs["candidate"], done, next(each for each in self.rungs if each > done))

    def _nearest(self, wanted: Parts, untried: Sequence[str]) -> str:
        """Return the candidate that has most fields in common with the sampler's suggestion."""
        alike = {label: sum(self.candidates[label][key] == value for key, value in wanted.items()) for label in untried}
        most = max(alike.values())
        found = [label for label, count in alike.items() if count == most]
        return found[0] if most == len(wanted) else self.random.choice(found)

    def put_back(self, step: Step) -> None:
        """Put an untrained step back, to be done another time."""
        self.waiting.append(self.working.pop(step.trial))

    def report(self, step: Step, score: float) -> bool:
        """Record the score of a step; return whether its candidate continues or has completed the last rung."""
        trial = self.working.pop(step.trial)
        trial.report(score, step.epochs)
        return self._decide(trial)

    def _decide(self, trial: "optuna.Trial") -> bool:
        """Decide on a trial after its last report, also after a kill; return whether it continues or is complete."""
        import optuna

        scores = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if self.rungs[-1] in scores:
            self.study.tell(trial, scores[self.rungs[-1]])
            return True
        if scores and trial.should_prune():
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return False
        self.waiting.append(trial)
        self.waiting.sort(key=_done)
        return True

    def fail(self, step: Step, reason: str) -> None:
        """Record that a step failed; its candidate is dropped and the search continues."""
        import optuna

        trial = self.working.pop(step.trial)
        trial.set_user_attr("failed", reason)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def tried(self) -> dict[str, tuple[int, float | None, str | None]]:
        """Return the epochs, score and error message of each candidate that was started, by label."""
        found = {}
        for trial in self.study.get_trials(deepcopy=False):
            values, label = trial.intermediate_values, trial.user_attrs.get("candidate")
            if label is not None:
                done = max(values, default=0)
                found[label] = (done, values.get(done), trial.user_attrs.get("failed"))
        return found

    def ranking(self) -> list[str]:
        """Return the labels of the trained candidates, by epochs and then by score, both in descending order."""
        found = []
        for trial in self.study.get_trials(deepcopy=False):
            values = trial.intermediate_values
            if values and "failed" not in trial.user_attrs:
                done = max(values)
                found.append(((done, values[done]), trial.user_attrs["candidate"]))
        return [label for _, label in sorted(found, key=lambda each: each[0], reverse=True)]


def _done(trial: "optuna.Trial") -> int:
    """Return the number of epochs that a trial has completed."""
    values = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    return max(values, default=0)
