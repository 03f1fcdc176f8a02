"""QLoRA (https://huggingface.co/papers/2305.14314): what a recipe with a 4-bit or 8-bit base model must say."""

import os

from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import is_bitsandbytes_available, strtobool
from trl import ModelConfig

from ..config import DAPOConfig


def check_quantization(args: DAPOConfig, model_args: ModelConfig) -> None:
    """
    Refuses recipes whose quantized base model could not be trained. Any other recipe passes.

    Args:
        args (`DAPOConfig`): precision of the training.
        model_args (`ModelConfig`): `load_in_4bit` or `load_in_8bit` quantizes the base model.

    Raises:
        ValueError: without LoRA, with a model that is spread over processes, or with 4-bit weights that are unpacked
            to another type than the training computes with.
        ImportError: if bitsandbytes is missing.
    """
    name = next((name for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)), None)
    if name is None:
        return
    if not model_args.use_peft:
        raise ValueError(
            f"{name}=True with use_peft=False: quantized weights cannot be trained, only adapters on them. Set "
            f"use_peft to true, or {name} to false."
        )
    spread_by = _spread_by()
    if spread_by:
        raise ValueError(
            f"{name}=True cannot be combined with {spread_by}, which spreads the packed weights over the processes: "
            "they could not be gathered for generation. Start with recipes/accelerate_configs/ddp.yaml or zero2.yaml, "
            f"which keep the model whole on every GPU, or set {name} to false."
        )
    if not is_bitsandbytes_available():
        raise ImportError(
            f"{name}=True needs bitsandbytes, which is not installed or too old. Install it with `pip install -U "
            f"'dapo_trl[quantization]'`, or set {name} to false."
        )
    if model_args.load_in_4bit:
        _check_compute_dtype(args, model_args)


def _spread_by() -> str | None:
    if is_deepspeed_zero3_enabled():
        return "DeepSpeed ZeRO-3"
    return "FSDP" if strtobool(os.environ.get("ACCELERATE_USE_FSDP", "false")) else None


def _check_compute_dtype(args: DAPOConfig, model_args: ModelConfig) -> None:
    """TRL unpacks 4-bit weights to the type in which the rest of the model is loaded."""
    dtype = model_args.dtype
    if dtype in (None, "auto"):
        raise ValueError(
            f"dtype={dtype!r} with load_in_4bit=True: dtype is also the type that 4-bit weights are unpacked to, so "
            "it must be named. Set dtype to 'bfloat16', 'float16' or 'float32'."
        )
    for field, expected in {"bf16": "bfloat16", "fp16": "float16"}.items():
        if getattr(args, field) and dtype != expected:
            raise ValueError(
                f"dtype={dtype!r} with load_in_4bit=True and {field}=True: dtype is also the type that 4-bit weights "
                f"are unpacked to, and the training computes in {expected}. Set dtype to {expected!r}, or {field} to "
                "false."
            )
