"""`yolo-lite make`: a base of Ultralytics, a backbone, a neck and a head into a model YAML.

make.py    the function: a recipe checked, its rows and widths found, the file written
recipe.py  what is asked for; which of it cannot go together
base.py    the stock model that is changed, read from its YAML: rows, levels, comments
graft.py   the rows of the new model: which of the base's are replaced, and by what
pans.py    necks of ours: all rows between backbone and head
budget.py  what a YAML costs beside its base, and the widths that make it lighter or fit a budget
draft.py   the YAML's text and its header
names.py   the names under which Ultralytics would take a file for another model
"""
