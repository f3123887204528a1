"""The parameter count of every registered network, for the facts that a dataset would supply."""

MNIST = {"num_classes": 10, "in_channels": 1, "image_size": 28}
CIFAR = {"num_classes": 10, "in_channels": 3, "image_size": 32}
IMAGENET = {"num_classes": 1000, "in_channels": 3, "image_size": 224}

# fmt: off
PARAMETERS: dict[str, tuple[dict, int]] = {
    # By hand: 7850 = 784·10 + 10; 203,530 = 784·256 + 256 + 256·10 + 10, with and without an activation.
    "linear":             (MNIST,          7_850),
    "stacked_linear":     (MNIST,        203_530),
    "mlp":                (MNIST,        203_530),
    # LeNet: 156 + 2416 + 48,120 + 10,164 + 850.
    "lenet":              (MNIST,         61_706),
    # Plain: 260 + 5020 + 3210; 260 + 1820 + 3620 + 2896 + 170.
    "two_conv":           (MNIST,          8_490),
    "mnist_cnn":          (MNIST,          8_766),
    # Inception: 260 + 19,104 + 44,020 + 19,824 + 14,090; torchvision's count.
    "inception_net":      (MNIST,         97_298),
    "googlenet":          (IMAGENET,   6_624_904),
    # DenseNet: 1.0M, 7.0M, 0.8M for CIFAR in arXiv:1608.06993, table 2; torchvision's counts for ImageNet.
    "densenet40_k12":     (CIFAR,      1_019_722),
    "densenet100_k12":    (CIFAR,      6_979_642),
    "densenet_bc100_k12": (CIFAR,        769_162),
    "densenet121":        (IMAGENET,   7_978_856),
    "densenet169":        (IMAGENET,  14_149_480),
    # AlexNet: torchvision's count.
    "alexnet":            (IMAGENET,  61_100_840),
    # VGG: torchvision's counts; 133M, 133M, 138M, 144M in arXiv:1409.1556, table 2.
    "vgg11":              (IMAGENET, 132_863_336),
    "vgg13":              (IMAGENET, 133_047_848),
    "vgg16":              (IMAGENET, 138_357_544),
    "vgg19":              (IMAGENET, 143_667_240),
    "vgg11_bn":           (IMAGENET, 132_868_840),
    "vgg13_bn":           (IMAGENET, 133_053_736),
    "vgg16_bn":           (IMAGENET, 138_365_992),
    "vgg19_bn":           (IMAGENET, 143_678_248),
    # Xception: 22,855,952 in arXiv:1610.02357, table 3.
    "xception":           (IMAGENET,  22_855_952),
    # MobileNet: 4.2M in arXiv:1704.04861, table 4; torchvision's count.
    "mobilenet_v1":       (IMAGENET,   4_231_976),
    "mobilenet_v2":       (IMAGENET,   3_504_872),
    # ShuffleNet: own count (the paper gives multiply-adds only); torchvision's counts.
    "shufflenet_v1":      (IMAGENET,   1_865_728),
    "shufflenet_v2_x0_5": (IMAGENET,   1_366_792),
    "shufflenet_v2_x1_0": (IMAGENET,   2_278_604),
    "shufflenet_v2_x1_5": (IMAGENET,   3_503_624),
    "shufflenet_v2_x2_0": (IMAGENET,   7_393_996),
    # Whitened: 312 + 13,824 + 36,864 + 147,456 + 3 · 589,824 + 2,560, and 2,304 of normalisation.
    "whitened_cnn":       (CIFAR,      1_972_792),
    # ResNet, ImageNet form: torchvision's counts.
    "resnet18":           (IMAGENET,  11_689_512),
    "resnet34":           (IMAGENET,  21_797_672),
    "resnet50":           (IMAGENET,  25_557_032),
    "resnet101":          (IMAGENET,  44_549_160),
    "resnet152":          (IMAGENET,  60_192_808),
    # ResNeXt: torchvision's counts; 29 layers: 34.4M in arXiv:1611.05431.
    "resnext50_32x4d":    (IMAGENET,  25_028_904),
    "resnext101_32x8d":   (IMAGENET,  88_791_336),
    "resnext29_8x64d":    (CIFAR,     34_426_698),
    # ResNet-18 with the small stem: the course notes' count.
    "resnet18_cifar":     (CIFAR,     11_173_962),
    # ResNet, CIFAR form: 0.27M, 0.46M, 0.66M, 0.85M, 1.7M in arXiv:1512.03385, table 6.
    "resnet20":           (CIFAR,        269_722),
    "resnet32":           (CIFAR,        464_154),
    "resnet44":           (CIFAR,        658_586),
    "resnet56":           (CIFAR,        853_018),
    "resnet110":          (CIFAR,      1_727_962),
    # Pre-activation ResNet: 1.7M and 10.2M (without batch normalisation) in arXiv:1603.05027.
    "preact_resnet18":    (IMAGENET,  11_687_720),
    "preact_resnet34":    (IMAGENET,  21_795_880),
    "preact_resnet50":    (IMAGENET,  25_549_352),
    "resnet164":          (CIFAR,      1_703_258),
    "resnet1001":         (CIFAR,     10_327_706),
    # Residual variants: with its defaults, resnet20.
    "residual_variants":  (CIFAR,        269_722),
    # Residual net: 16·26 + 4,640 + 32·401 + 18,496 + 10·513.
    "residual_net":       (MNIST,         41_514),
    # With its default `arch`, resnet34.
    "torchvision":        (IMAGENET,  21_797_672),
}
# fmt: on

# Of a library that need not be installed: tested with a stand-in for it, in test_backbones.py.
OPTIONAL = {"timm"}
