"""`yolo-lite make`: compose a model YAML from an Ultralytics base, a backbone, a neck and a head.

make.py            public function: check a recipe, determine rows and widths, write the file
recipe.py          options and their compatibility checks
base.py            stock model read from its YAML: rows, levels, comments
graft.py           rows of the new model: which rows of the base are replaced, and by what
pans.py            PAN necks: all rows between backbone and head
budget.py          cost of a YAML compared with its base; widths that make it lighter or fit a budget
draft.py           text of the YAML and its header
reserved_names.py  file names that Ultralytics would mistake for another model
"""
