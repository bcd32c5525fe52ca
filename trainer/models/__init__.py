"""What --model names: ours, Keras' applications, functions and files of the user's. Imports no Keras."""

from trainer.models.registry import (
    MODELS,
    Architecture,
    ModelArg,
    build_model,
    check_model,
    check_model_args,
    model_args_text,
    parse_model_args,
)

__all__ = (
    *("MODELS", "Architecture", "ModelArg", "build_model", "check_model", "check_model_args"),
    *("model_args_text", "parse_model_args"),
)
