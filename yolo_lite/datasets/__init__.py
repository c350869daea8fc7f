"""Datasets: the generated one, and what has to be known of any.

shapes.py  the generated dataset, for every task
images.py  the training images of a dataset, which calibrate int8
scan.py    a dataset, found, scanned once and known by its content, for a comparison
"""
