"""`yolo-lite bench`: how long models take in the runtimes that people deploy with, and how they compare.

run.py          what is measured, in which order
measurement.py  one model in one runtime: time, ratio, interval
runtimes.py     how each runtime opens and runs an export; a new one is a function and a row
timing.py       the process that times models, interleaved
export.py       exports, complete or absent
int8.py         int8 for onnxruntime
report.py       tables, CSV and the plot
"""
