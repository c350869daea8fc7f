"""Our distribution's name as a module: checkpoints name it before any class of `yolo_lite`.

Where a checkpoint is opened without us, Ultralytics tells its user to install the first module that it cannot import,
and installs a package of that name. This one's is the distribution that holds `yolo_lite`, too.
"""


class Distribution:
    """What a checkpoint holds a reference to, and nothing else."""
