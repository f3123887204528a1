"""The two registries that model files fill: networks, and ways to initialise them."""

from cnnlab.registry import Registry

# The dataset tells these; a builder asks for those it needs.
MODELS = Registry("model", supplied=("num_classes", "in_channels", "image_size"))

# An initialiser is called with each module in turn, as `nn.Module.apply` does.
INITS = Registry("model.init", supplied=("module",))
