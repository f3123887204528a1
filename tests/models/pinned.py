"""The parameter count of every registered network, for the facts that a dataset would supply."""

MNIST = {"num_classes": 10, "in_channels": 1, "image_size": 28}
CIFAR = {"num_classes": 10, "in_channels": 3, "image_size": 32}
IMAGENET = {"num_classes": 1000, "in_channels": 3, "image_size": 224}

PARAMETERS: dict[str, tuple[dict, int]] = {
    # ResNet, ImageNet form: torchvision's counts.
    "resnet18":          (IMAGENET, 11_689_512),
    "resnet34":          (IMAGENET, 21_797_672),
    "resnet50":          (IMAGENET, 25_557_032),
    "resnet101":         (IMAGENET, 44_549_160),
    "resnet152":         (IMAGENET, 60_192_808),
    # ResNeXt: torchvision's counts; 29 layers: 34.4M in arXiv:1611.05431.
    "resnext50_32x4d":   (IMAGENET, 25_028_904),
    "resnext101_32x8d":  (IMAGENET, 88_791_336),
    "resnext29_8x64d":   (CIFAR,    34_426_698),
    # ResNet-18 with the small stem: the course notes' count.
    "resnet18_cifar":    (CIFAR,    11_173_962),
    # ResNet, CIFAR form: 0.27M, 0.46M, 0.66M, 0.85M, 1.7M in arXiv:1512.03385, table 6.
    "resnet20":          (CIFAR,       269_722),
    "resnet32":          (CIFAR,       464_154),
    "resnet44":          (CIFAR,       658_586),
    "resnet56":          (CIFAR,       853_018),
    "resnet110":         (CIFAR,     1_727_962),
    # Pre-activation ResNet: 1.7M and 10.2M (without batch normalisation) in arXiv:1603.05027.
    "preact_resnet18":   (IMAGENET, 11_687_720),
    "preact_resnet34":   (IMAGENET, 21_795_880),
    "preact_resnet50":   (IMAGENET, 25_549_352),
    "resnet164":         (CIFAR,     1_703_258),
    "resnet1001":        (CIFAR,    10_327_706),
    # Residual variants: with its defaults, resnet20.
    "residual_variants": (CIFAR,       269_722),
    # Residual net: 16·26 + 4,640 + 32·401 + 18,496 + 10·513.
    "residual_net":      (MNIST,        41_514),
}  # fmt: skip
