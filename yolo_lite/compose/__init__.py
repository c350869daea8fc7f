"""`yolo-lite make`: a base of Ultralytics, a backbone, a neck and a head into a model YAML.

make.py    the command's function: what is asked for, checked; the YAML's text
graft.py   the rows: which of the base's are replaced, and by what
budget.py  what a YAML costs beside its base, and the width that fits a budget
"""
