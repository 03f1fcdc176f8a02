"""Shapes of models, and their parameters counted without any weights."""

import os
from collections.abc import Iterable
from typing import NamedTuple

import torch
from peft import PeftConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from trl import ModelConfig, get_peft_config

from ..config import DAPOConfig


_COLUMNS = "num_hidden_layers hidden_size intermediate_size num_attention_heads num_key_value_heads vocab_size"
_COLUMNS += " tie_word_embeddings max_position_embeddings"
# The recipes' models, so that their estimates need no Hub.
_SHAPES: dict[str, tuple] = {
    "Qwen/Qwen2.5-1.5B": ("qwen2", 28, 1536, 8960, 12, 2, 151936, True, 131072),
    "Qwen/Qwen2.5-1.5B-Instruct": ("qwen2", 28, 1536, 8960, 12, 2, 151936, True, 32768),
    "Qwen/Qwen2.5-7B": ("qwen2", 28, 3584, 18944, 28, 4, 152064, False, 131072),
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2", 28, 3584, 18944, 28, 4, 152064, False, 32768),
    "Qwen/Qwen2.5-Math-7B": ("qwen2", 28, 3584, 18944, 28, 4, 152064, False, 4096),
    "Qwen/Qwen2.5-32B": ("qwen2", 64, 5120, 27648, 40, 8, 152064, False, 131072),
    "Qwen/Qwen3-0.6B": ("qwen3", 28, 1024, 3072, 16, 8, 151936, True, 40960),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llama", 30, 576, 1536, 9, 3, 49152, True, 8192),
}


class ModelSize(NamedTuple):
    """Numbers of parameters of a model, tied ones counted once, and their precision."""

    config: PreTrainedConfig
    num_parameters: int  # all of the base model
    num_embedding: int  # of the input embedding and the language modelling head
    num_projections: int  # of linear layers within the blocks, which can be quantized
    num_trained: int  # with adapters, the adapters'
    weight_bytes: int = 4  # of a number, as the weights are loaded
    computed_bytes: int = 4  # of a number that is computed with
    projection_bytes: float | None = None  # of a quantized number
    has_flash_attention: bool = False

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained instead of the model."""
        return self.num_trained != self.num_parameters

    @property
    def is_quantized(self) -> bool:
        """Whether the projections have 4 or 8 bits."""
        return self.projection_bytes is not None

    @property
    def base_bytes(self) -> float:
        """Bytes of the base model as it is loaded; in a quantized one embeddings, head and norms keep two bytes."""
        if self.projection_bytes is None:
            return self.weight_bytes * self.num_parameters
        return self.projection_bytes * self.num_projections + 2 * (self.num_parameters - self.num_projections)

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads

    @property
    def query_width(self) -> int:
        """Width of all queries of a token, d_q."""
        return self.config.num_attention_heads * self.head_dim

    @property
    def num_multiplied(self) -> int:
        """Parameters that a token is multiplied with: all but the input embedding."""
        return self.num_parameters - self.num_embedding + self.config.vocab_size * self.config.hidden_size

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token."""
        return (
            2 * self.computed_bytes * self.config.num_hidden_layers * self.config.num_key_value_heads * self.head_dim
        )


_measured: dict[tuple, ModelSize] = {}  # the search for a remedy asks for the same models many times


def model_size(model_args: ModelConfig, args: DAPOConfig) -> ModelSize:
    """The model of a recipe, with its adapters and precision."""
    name, revision = model_args.model_name_or_path, model_args.model_revision
    if name is None:
        raise ValueError("model_name_or_path is not set. Set it to a model id on the Hub or a local directory.")
    peft_config = get_peft_config(model_args)
    key = (name, revision, str(peft_config))
    if key not in _measured:
        try:
            config = load_config(name, revision, args.trust_remote_code)
        except OSError as error:
            raise ValueError(
                f"model_name_or_path={name!r} is no directory with a config.json here, and the Hub did not give one. "
                "Set model_name_or_path to a model that can be found, or make this one first."
            ) from error
        _measured[key] = measure(config, peft_config)
    init_kwargs = args.model_init_kwargs if isinstance(args.model_init_kwargs, dict) else {}
    dtype = init_kwargs.get("dtype", model_args.dtype)
    if dtype in (None, "auto"):
        dtype = _measured[key].config.dtype or "float32"
    return _measured[key]._replace(
        weight_bytes={"float32": 4, "bfloat16": 2, "float16": 2}[str(dtype).removeprefix("torch.")],
        computed_bytes=2 if args.bf16 or args.fp16 else 4,
        projection_bytes=_projection_bytes(model_args),
        has_flash_attention="flash" in (model_args.attn_implementation or ""),
    )


def _projection_bytes(model_args: ModelConfig) -> float | None:
    """
    Bytes of a quantized number, with its share of the scales (https://huggingface.co/papers/2305.14314).

    A scale for each block of 64 numbers has 4 bytes, or with nested quantization 1 byte and 4 for each 256 scales.
    """
    if model_args.load_in_8bit:
        return 1.0
    if model_args.load_in_4bit:
        return 0.5 + (1 / 64 + 4 / (64 * 256) if model_args.use_bnb_nested_quant else 4 / 64)
    return None


def load_config(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The shape of a model: of a local directory, of one of the recipes' models, or from the Hub."""
    if name not in _SHAPES or os.path.isdir(name):
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    kind, *values = _SHAPES[name]
    return AutoConfig.for_model(kind, **dict(zip(_COLUMNS.split(), values, strict=True)))


def measure(config: PreTrainedConfig, peft_config: PeftConfig | None = None) -> ModelSize:
    """Counts the parameters of a model, or of its adapters, on the meta device: without memory for its weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    num_parameters = _count(model.parameters())
    num_projections = _count(weight for weight in linear if weight not in embeddings)
    if peft_config is not None:
        model = get_peft_model(model, peft_config)
    return ModelSize(
        config=config.get_text_config(),
        num_parameters=num_parameters,
        num_embedding=_count(embeddings),
        num_projections=num_projections,
        num_trained=_count(parameter for parameter in model.parameters() if parameter.requires_grad),
    )


def _count(parameters: Iterable[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
