"""A configuration becomes objects: the only room that knows models, data, optim and engine together.

dataset.py    the dataset, and its images as batches
network.py    the network, from the facts of its dataset alone
assembly.py   what fails before an image is read
training.py   what trains, from the images
"""
