"""Weights: published ones, and another model's.

published.py     where a backbone's weights are published, and how they are read
loading.py       how a reference's tensors fit a backbone of ours
by_role.py       neck and head of a stock model in one with another backbone
transfer.py      what a trained model computes, in another architecture, in closed form: the way in
cache.py         transfers that were done before
fitting.py       the transfer itself, unit by unit; goals.py: what the outputs of a layer should be
roles.py         which layer of one model does what a layer of the other does
channels.py      which channels of the source a layer stands for
selection.py     the weights of those channels as they are, to compare a fit with
mimicking.py     a backbone of other blocks, trained to give the source's maps
sampling.py      what layers see and give, at a sample of pixels
regression.py    the fit of one layer
head_targets.py  what a head's last layers should give where outputs differ
store.py         maps of many images, in memory and on disk
"""
