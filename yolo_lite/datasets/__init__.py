"""Datasets: the generated dataset `shapes`, and functions for any dataset.

shapes.py  generated dataset, for every task
images.py  training images of a dataset, for int8 calibration and weight transfer
scan.py    dataset of a comparison: find it, scan it once and compute its content digest
"""
