"""`yolo-lite choose`: the best light detector for a dataset, on a device, within a budget.

settings.py      what the user gave, read and checked
candidates.py    all models that a search may choose from
cost_model.py    how long a model takes, told from what its layers do
timing.py        some are measured, the others told from them
field.py         candidates as files; those within the budget, measured
held_out.py      a part of the training images to choose by
search.py        successive halving, by Optuna
schedule.py      how the hours are spent
run.py           all of it: the field, the halving, the finalists' comparison
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from yolo_lite.choose.run import Outcome


def choose(settings: str | Path | Mapping[str, Any] | None = None, /, **more: Any) -> Outcome:
    """Search for a model as `yolo-lite choose` does.

    Args:
        settings: The path of a YAML file, or a dictionary, with settings.
        **more: Settings that override those: the options of `yolo-lite choose`, and training arguments of Ultralytics.

    Returns:
        (Outcome): The search's folder, and what the finalists' comparison found.

    Raises:
        ConfigError: A setting or the dataset cannot be used, or nothing meets the budget; then nothing was trained.
    """
    from yolo_lite.choose.run import execute
    from yolo_lite.choose.settings import read

    return execute(read(settings, more))
