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
}
# fmt: on
