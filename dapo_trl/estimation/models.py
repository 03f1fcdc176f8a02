"""Shapes of models, and their parameters counted without any weights."""

import copy
import functools
import os
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from trl import ModelConfig


_COLUMNS = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
    "max_position_embeddings",
)
_ROWS = {
    "Qwen/Qwen2.5-1.5B": ("qwen2", 28, 1536, 8960, 12, 2, 151936, True, 131072),
    "Qwen/Qwen2.5-1.5B-Instruct": ("qwen2", 28, 1536, 8960, 12, 2, 151936, True, 32768),
    "Qwen/Qwen2.5-7B": ("qwen2", 28, 3584, 18944, 28, 4, 152064, False, 131072),
    "Qwen/Qwen2.5-7B-Instruct": ("qwen2", 28, 3584, 18944, 28, 4, 152064, False, 32768),
    "Qwen/Qwen2.5-Math-7B": ("qwen2", 28, 3584, 18944, 28, 4, 152064, False, 4096),
    "Qwen/Qwen2.5-32B": ("qwen2", 64, 5120, 27648, 40, 8, 152064, False, 131072),
    "Qwen/Qwen3-0.6B": ("qwen3", 28, 1024, 3072, 16, 8, 151936, True, 40960),
    "HuggingFaceTB/SmolLM2-135M-Instruct": ("llama", 30, 576, 1536, 9, 3, 49152, True, 8192),
}
_EXTRA = {"Qwen/Qwen3-0.6B": {"head_dim": 128}}
"""Where heads are not `hidden_size / num_attention_heads` wide."""


@dataclass(frozen=True)
class ModelSize:
    """
    Numbers of parameters of a model, tied ones counted once.

    Args:
        config (`PreTrainedConfig`): the shape.
        num_parameters (`int`): all of the base model.
        num_embedding (`int`): those of the input embedding and of the language modelling head.
        num_projections (`int`): those of linear layers within the blocks, which can be quantized.
        num_trained (`int`): those that are trained; with adapters, the adapters'.
    """

    config: PreTrainedConfig
    num_parameters: int
    num_embedding: int
    num_projections: int
    num_trained: int

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained instead of the model."""
        return self.num_trained != self.num_parameters

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads

    @property
    def query_width(self) -> int:
        """Width of all queries of a token."""
        return self.config.num_attention_heads * self.head_dim

    @property
    def num_multiplied(self) -> int:
        """Parameters that a token is multiplied with: all but the input embedding."""
        return self.num_parameters - self.num_embedding + self.config.vocab_size * self.config.hidden_size

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of the keys and values of one token in two-byte numbers."""
        return 2 * 2 * self.config.num_hidden_layers * self.config.num_key_value_heads * self.head_dim


def model_size(model_args: ModelConfig, trust_remote_code: bool) -> ModelSize:
    """
    The model of a recipe, with its adapters.

    Raises:
        ValueError: if none is named, or there is no such model here or on the Hub.
    """
    name, targets = model_args.model_name_or_path, model_args.lora_target_modules
    if name is None:
        raise ValueError("model_name_or_path is not set. Set it to a model id on the Hub or a local directory.")
    targets = tuple(targets) if isinstance(targets, list) else targets
    adapters = (model_args.lora_r, targets, model_args.use_dora) if model_args.use_peft else None
    try:
        return _measure_named(name, model_args.model_revision, trust_remote_code, adapters)
    except OSError as error:
        raise ValueError(
            f"model_name_or_path={name!r} is no directory with a config.json here, and the Hub did not give one. Set "
            "model_name_or_path to a model that can be found, or make this one first."
        ) from error


@functools.cache
def _measure_named(name: str, revision: str, trust_remote_code: bool, adapters: tuple | None) -> ModelSize:
    config = load_config(name, revision, trust_remote_code)
    if adapters is None:
        return measure(config)
    rank, targets, use_dora = adapters
    targets = list(targets) if isinstance(targets, tuple) else targets
    return measure(config, LoraConfig(r=rank, target_modules=targets, use_dora=use_dora, task_type="CAUSAL_LM"))


def load_config(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedConfig:
    """
    The shape of a model: of a local directory, of the table of the recipes' models, or of the Hub.

    Args:
        name (`str`): directory or Hub id.
        revision (`str`, *optional*): revision on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`): see `AutoConfig.from_pretrained`.
    """
    if name in _ROWS and not os.path.isdir(name):
        fields = dict(zip(_COLUMNS, _ROWS[name], strict=True)) | _EXTRA.get(name, {})
        return AutoConfig.for_model(**fields)
    return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)


def measure(config: PreTrainedConfig, peft_config: PeftConfig | None = None) -> ModelSize:
    """
    Counts the parameters of a model that is built without memory for its weights.

    Args:
        config (`PreTrainedConfig`): the shape.
        peft_config (`PeftConfig`, *optional*): adapters that are trained instead of the model.
    """
    text_config = config.get_text_config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embeddings = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    linear = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    num_parameters = _count(model.parameters())
    num_projections = _count(weight for weight in linear if weight not in embeddings)
    if peft_config is not None:
        model = get_peft_model(model, copy.deepcopy(peft_config))  # PEFT writes names of this model into it
    return ModelSize(
        config=text_config,
        num_parameters=num_parameters,
        num_embedding=_count(embeddings),
        num_projections=num_projections,
        num_trained=_count(parameter for parameter in model.parameters() if parameter.requires_grad),
    )


def _count(parameters) -> int:
    return sum(parameter.numel() for parameter in parameters)
