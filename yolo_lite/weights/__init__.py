"""Weights: published ones, and another model's.

published.py  where a backbone's weights are published, and how they are read
loading.py    how a reference's tensors fit a backbone of ours
by_role.py    neck and head of a stock model in one with another backbone
"""
