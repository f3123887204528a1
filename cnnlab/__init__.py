"""cnnlab: convolutional-network experiments from configuration."""

__version__ = "0.1.0"
