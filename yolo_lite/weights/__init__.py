"""Initial weights: published ImageNet weights, and those of another model.

published.py     where a backbone's weights are published, and how they are read
loading.py       loads a reference's state dict into a backbone
by_role.py       copies neck and head of a stock model into a model with another backbone
transfer.py      closed-form transfer of a trained model to another architecture: entry point
cache.py         cache of finished transfers
fitting.py       the transfer itself, unit by unit; goals.py: desired outputs of a layer
roles.py         pairs the layers of two models that have the same role
channels.py      selects the source channels that a layer reproduces
selection.py     copies the weights of those channels without a fit, as a comparison
mimicking.py     trains a backbone of different blocks to reproduce the source's feature maps
sampling.py      inputs and outputs of layers at a sample of pixels
regression.py    ridge regression of one layer
head_targets.py  desired outputs of a head's last layers where source and target differ
store.py         feature maps of many images, in memory and on disk
"""
