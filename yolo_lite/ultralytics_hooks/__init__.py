"""All that touches Ultralytics when a model is built.

    hooks.py        which of its functions are wrapped, and how
    parser.py       the patched parser
    checks.py       a model YAML as it is written; dry_run.py: what its rows cannot do together
    configs.py      where model YAMLs are found
    weights_key.py  the key `backbone_weights`
    internals.py    everything inside Ultralytics that yolo_lite relies on

Nothing is imported here: for a stock model none of it is needed.
"""
