"""What many spaces of the tests have."""

from trainer.config import TrainConfig

CONFIG = TrainConfig(data="data", run_dir="", epochs=9)
RATE = "{type: float, min: 0.001, max: 0.01}"
AUGMENT = "augment: {type: choice, values: [none, light]}\n"
MODEL = "model: {type: choice, values: [cnn, resnet]}\n"
