"""Everything that touches Ultralytics when a model is built.

    hooks.py        which Ultralytics functions are wrapped
    parser.py       the patched model parser
    reading.py      strict reading of a model YAML; whether it is yolo_lite's
    keys.py         checks of its keys and numbers, and its scale
    checks.py       static checks, row by row; dry_run.py: checks of how its rows fit together
    configs.py      where model YAMLs are found
    checkpoints.py  yolo_lite classes in checkpoints, and the release that wrote them
    released.py     released checkpoints, found by their bare names
    weights_key.py  the key `backbone_weights`
    training.py     transfer from a trained source when a training begins
    internals.py    everything inside Ultralytics that yolo_lite relies on

Nothing is imported here, since a stock model needs none of it.
"""
