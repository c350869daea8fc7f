"""Notes for the reader on how the results of a comparison were obtained."""

import json
from collections.abc import Iterator, Sequence

from yolo_lite.bench.measurement import BUSY, busy
from yolo_lite.compare.comparison import Comparison
from yolo_lite.compare.latency import Latency
from yolo_lite.compare.record import RunRecord


def notes_on(comparison: Comparison, runs: Sequence[RunRecord], latency: Latency | None) -> list[str]:
    """Return the notes on a comparison, as sentences."""
    return [
        *(note for run in runs for note in _on_run(run)),
        *_on_initial_weights(runs),
        *_on_environments(runs),
        *_on_latency(comparison, latency),
        *_on_seeds(comparison),
    ]


def _on_run(run: RunRecord) -> Iterator[str]:
    name = f"{run.model}, seed {run.seed}"
    if run.status is None:
        yield f"{name}: not finished yet."
    elif run.status == "failed":
        yield f"{name}: failed: {run.error}"
    elif run.status == "resumed":
        places = [f"epoch {each.start.epoch}" for each in run.attempts if each.start.kind == "resume"]
        yield (
            f"{name}: resumed from {', '.join(places)}; Ultralytics' checkpoints hold the averaged weights in half "
            "precision and no random state, so it is not what an uninterrupted run would have been."
        )
    yield from (f"{name}: {note}." for note in run.notes)


def _on_initial_weights(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yield the initial weights of each model, if any model started from more than random weights."""
    began = [run for run in runs if run.initial_weights]
    if any(run.initial_weights != "random weights" for run in began):
        for model in dict.fromkeys(run.model for run in began):
            first, *others = [run for run in began if run.model == model]
            alike = all(run.initial_weights == first.initial_weights for run in others)
            yield f"{model} started from {first.initial_weights}{'' if alike else f' (seed {first.seed})'}."


def _on_environments(runs: Sequence[RunRecord]) -> Iterator[str]:
    for what in ("versions", "machine"):
        known = (getattr(run, what) for run in runs)
        kinds = {json.dumps(each, sort_keys=True) for each in known if each is not None}
        if len(kinds) > 1:
            yield f"The runs were made with {len(kinds)} different sets of {what}; see the list of runs."


def _on_latency(comparison: Comparison, latency: Latency | None) -> Iterator[str]:
    if latency is None:
        yield "Latency has not been measured."
    elif any(latency.models.get(label) != model.digest for label, model in comparison.models.items()):
        yield "Latency was measured before the last models were added; theirs is missing."
    elif busy(latency.measurements):
        yield BUSY


def _on_seeds(comparison: Comparison) -> Iterator[str]:
    if len({tuple(seeds) for seeds in comparison.seeds.values()}) > 1:
        yield "Models have different numbers of seeds; differences use the seeds that both have."
    if min(map(len, comparison.seeds.values()), default=0) == 2:
        yield "Two seeds tell little: use three or more before you decide."
