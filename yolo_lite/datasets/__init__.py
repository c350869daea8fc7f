"""Datasets: the generated one, and what a comparison has to know of any.

shapes.py  the generated dataset, for every task
scan.py    a dataset, found, scanned once and known by its content
"""
