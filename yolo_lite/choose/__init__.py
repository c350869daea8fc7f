"""`yolo-lite choose`: search for the best lightweight detector for a dataset and a device, within a latency budget.

settings.py      user settings, read and checked
candidates.py    all models that a search may choose from
cost_model.py    latency predicted from the work of a model's layers
timing.py        latency of the candidates: measured for some, predicted for the others
field.py         candidates as YAML files; latency of those near the budget
held_out.py      held-out part of the training images, used to rank candidates
search.py        which candidate is trained next, by Optuna
halving.py       successive halving: the candidates' trainings
schedule.py      how the hours are divided
run.py           the whole search: field, successive halving, comparison of the finalists
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from yolo_lite.choose.run import Outcome


def choose(settings: str | Path | Mapping[str, Any] | None = None, /, **more: Any) -> Outcome:
    """Search for a model, as `yolo-lite choose` does.

    Args:
        settings: Path of a YAML file or a dictionary with settings.
        **more: Settings that override these: options of `yolo-lite choose` and training arguments of Ultralytics.

    Returns:
        (Outcome): Folder of the finalists' comparison, with its finished and failed runs.

    Raises:
        ConfigError: A setting or the dataset is invalid, or no candidate meets the budget; then nothing was trained.
    """
    from yolo_lite.choose.run import execute
    from yolo_lite.choose.settings import read

    return execute(read(settings, more))
