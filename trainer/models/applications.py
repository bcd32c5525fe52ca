"""`--model=keras:NAME`: the classifiers of `keras.applications`, each with its own preprocessing inside.

The table is static, so that flags need no Keras; a test compares it with the installed Keras.
"""

from typing import Any, Final

from tfrecords.errors import InputError

# How each family wants its pixels, as `keras.applications.FAMILY.preprocess_input` has it: "tf": -1 to 1;
# "caffe": BGR less the mean of ImageNet; "torch": mean 0 and deviation 1 on ImageNet; "own": 0 to 255.
APPLICATIONS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"), "own"
    ),
    **dict.fromkeys(("DenseNet121", "DenseNet169", "DenseNet201"), "torch"),
    **dict.fromkeys((f"EfficientNetB{number}" for number in range(8)), "own"),
    **dict.fromkeys((f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")), "own"),
    **dict.fromkeys(("InceptionResNetV2", "InceptionV3", "MobileNet", "MobileNetV2"), "tf"),
    **dict.fromkeys(("MobileNetV3Large", "MobileNetV3Small"), "own"),
    **dict.fromkeys(("NASNetLarge", "NASNetMobile", "Xception"), "tf"),
    **dict.fromkeys(("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"), "caffe"),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), "tf"),
}
_MEAN_BGR: Final = (103.939, 116.779, 123.68)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def application(name: str, image_shape: tuple[int, int, int], classes: int, *, imagenet: bool = False) -> Any:
    """Returns the application: pixels [B, H, W, C], 0 to 255, to logits [B, classes].

    Grey images are repeated to three channels. The dtype is the global policy's; the logits are float32.
    The weights are random, or all but those of the logits are ImageNet's, which Keras downloads to
    ~/.keras/models.

    Raises:
        InputError: the images are too small for it, or have neither one nor three channels, or the download
            fails.
    """
    import keras
    from keras import layers

    if image_shape[2] not in (1, 3):
        raise InputError(f"--model=keras:{name}: takes images of 1 or 3 channels, not {image_shape[2]}")
    try:
        base = getattr(keras.applications, name)(
            weights="imagenet" if imagenet else None,
            include_top=False,
            pooling="avg",
            input_shape=(*image_shape[:2], 3),
        )
    except ValueError as error:
        raise InputError(
            f"--model=keras:{name}: cannot take images of {image_shape}: {' '.join(str(error).split())}"
        ) from None
    except Exception as error:  # keras.utils.get_file raises just that, or an OSError
        if not isinstance(error, OSError) and "URL fetch failure" not in str(error):
            raise
        raise InputError(
            f"--weights=imagenet: cannot be downloaded: {' '.join(str(error).split())}; make a network "
            f"available, or give a file that has them: --weights=FILE.keras"
        ) from None
    inputs = keras.Input(image_shape, dtype="uint8", name="image")
    x = preprocessed(inputs, APPLICATIONS[name], grey=image_shape[2] == 1)
    outputs = layers.Dense(classes, dtype="float32", name="logits")(base(x))
    return keras.Model(inputs, outputs, name=name)


def preprocessed(x: Any, mode: str, *, grey: bool) -> Any:
    """Returns pixels, 0 to 255, as a family wants them, in layers that safe mode loads: [B, H, W, 3]."""
    import keras
    from keras import layers

    x = layers.Rescaling(1.0, dtype="float32")(x)
    if grey:
        x = layers.Concatenate(dtype="float32")([x, x, x])
    if mode == "tf":
        return layers.Rescaling(1 / 127.5, -1.0, dtype="float32")(x)
    if mode == "caffe":
        x = keras.ops.flip(x, axis=-1)
        return layers.Rescaling(1.0, [-mean for mean in _MEAN_BGR], dtype="float32")(x)
    if mode == "torch":
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
        return layers.Rescaling(scale, offset, dtype="float32")(x)
    return x
