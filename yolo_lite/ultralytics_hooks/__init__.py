"""All that touches Ultralytics when a model is built.

    hooks.py        which of its functions are wrapped
    parser.py       the patched parser
    reading.py      a model YAML, read strictly; whether it is ours
    keys.py         its keys and numbers, and the scale that they say
    checks.py       what can be read off it, row by row; dry_run.py: what its rows cannot do together
    configs.py      where model YAMLs are found
    checkpoints.py  classes of ours in checkpoints, and the release that made them
    released.py     checkpoints that are released, found by their bare names
    weights_key.py  the key `backbone_weights`
    training.py     what a trained source knows, carried over when a training begins
    internals.py    everything inside Ultralytics that yolo_lite relies on

Nothing is imported here: for a stock model none of it is needed.
"""
