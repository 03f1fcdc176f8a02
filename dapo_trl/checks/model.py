"""The model, its tokenizer and its optimizer: what would fail, or train nothing, only after a rollout."""

import os
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from peft import PeftModel, PromptLearningConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_enabled
from transformers.utils import is_bitsandbytes_available, strtobool
from trl import ModelConfig

from ..config import DAPOConfig


logger = get_logger(__name__)

LEAST_ADAPTER_RATE = 5e-6
"""Learning rate below which adapters hardly learn: they need about ten times that of all weights."""

LARGEST_FULL_RATE = 2e-5
"""Learning rate above which training all weights of a language model with a reward usually destroys it."""

LARGE_MODEL = 10**8
"""Parameters from which the usual rates hold."""

USUAL_WEIGHT = 0.02
"""Size of a weight in a layer some thousand wide."""


WHY_OFF = (
    "completions are generated without dropout, so with it the policy that is trained is not the one that generated, "
    "and importance ratios are not 1 at the start of a rollout"
)


# Before anything is loaded


def check_model(model: Any, processing_class: Any, trust_remote_code: bool = False) -> None:
    """
    Refuses a model, as given to the trainer, that is not a causal language model, or lacks what the trainer reads.
    """
    if isinstance(model, str):
        _check_architecture(model, trust_remote_code)
        return
    base: Any = getattr(model, "_orig_mod", model)  # of torch.compile
    if isinstance(base, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TypeError(f"model is a {type(base).__name__}, but the trainer wraps models itself. Pass model.module.")
    if not isinstance(base, PreTrainedModel | PeftModel):
        raise TypeError(
            f"model is {_described(model)}, but it must be the name or path of a model, a PreTrainedModel, or a "
            "PeftModel of one."
        )
    base = base.get_base_model() if isinstance(base, PeftModel) else base
    if not base.can_generate() or base.config.is_encoder_decoder:
        raise ValueError(
            f"model is a {type(base).__name__}, which is no causal language model. Load one with "
            "AutoModelForCausalLM.from_pretrained(...)."
        )
    if base.generation_config is None:
        raise ValueError(
            "model.generation_config is None, but the trainer reads the end tokens there. Set it to "
            "GenerationConfig.from_model_config(model.config)."
        )
    # With FSDP, all processes but the first may begin without data.
    if any(parameter.is_meta for parameter in base.parameters()) and not is_fsdp_enabled():
        raise ValueError(
            "model has parameters without data (on the meta device, or offloaded to disk or memory). Load it whole: "
            "from_pretrained without device_map, or with one that keeps every layer on a GPU."
        )
    if processing_class is None and not base.config._name_or_path:
        raise ValueError(
            "processing_class is not given, and model.config names no directory or repository to load it from. Pass "
            "the model's tokenizer as processing_class."
        )


def _check_architecture(name: str, trust_remote_code: bool) -> None:
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return  # no such model: the error of loading it says more
    architecture = (config.architectures or [None])[0]
    if architecture is None:
        raise ValueError(
            f"model={name!r}: its config.json names no architecture, so it is not known which class to load. Add "
            '"architectures" to it (save_pretrained of a model does), or pass a loaded model.'
        )
    cls = getattr(transformers, architecture, None)
    if cls is not None and (not cls.can_generate() or config.is_encoder_decoder):
        raise ValueError(f"model={name!r} is a {architecture}, which is no causal language model. Choose another one.")


def check_reference(model: Any, peft_config: Any, beta: float) -> None:
    """Refuses a model of which TRL could not make the reference of the KL term."""
    if beta == 0 or isinstance(model, str):
        return
    if isinstance(model, PeftModel):
        names = list(model.peft_config)
        if "default" not in names or "ref" in names:
            raise ValueError(
                f"beta={beta}: the reference is a copy of the adapter 'default' by the name of 'ref', but the model "
                f"has the adapters {names}. Load the one to train with adapter_name='default' and none as 'ref', or "
                "set beta to 0 (the paper's value)."
            )
    elif peft_config is None and not model.config._name_or_path:
        raise ValueError(
            f"beta={beta}: the reference model is loaded by the name of the model, but model.config names no "
            "directory or repository. Save the model and pass its directory, or set beta to 0 (the paper's value)."
        )


def check_optimizers(optimizers: Any) -> None:
    """Refuses what is not a pair of an optimizer and its scheduler."""
    if not isinstance(optimizers, tuple | list) or len(optimizers) != 2:
        raise TypeError(
            f"optimizers is {_described(optimizers)}, but it must be a pair (optimizer, scheduler), each of which may "
            "be None."
        )
    optimizer, scheduler = optimizers
    if scheduler is not None and getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "optimizers=(optimizer, scheduler): the scheduler belongs to another optimizer. Build it on that one, or "
            "pass None for it."
        )


def check_quantization(args: DAPOConfig, model_args: ModelConfig) -> None:
    """
    Refuses recipes whose 4-bit or 8-bit base model could not be trained (QLoRA,
    https://huggingface.co/papers/2305.14314).
    """
    name = next((name for name in ("load_in_4bit", "load_in_8bit") if getattr(model_args, name)), None)
    if name is None:
        return
    if not model_args.use_peft:
        raise ValueError(
            f"{name}=True with use_peft=False: quantized weights cannot be trained, only adapters on them. Set "
            f"use_peft to true, or {name} to false."
        )
    is_fsdp = strtobool(os.environ.get("ACCELERATE_USE_FSDP", "false"))
    spread_by = "DeepSpeed ZeRO-3" if is_deepspeed_zero3_enabled() else "FSDP" if is_fsdp else None
    if spread_by:
        raise ValueError(
            f"{name}=True cannot be combined with {spread_by}, which spreads the packed weights over the processes. "
            f"Start with recipes/accelerate_configs/ddp.yaml or zero2.yaml, or set {name} to false."
        )
    if not is_bitsandbytes_available():
        raise ImportError(
            f"{name}=True needs bitsandbytes, which is not installed or too old. Install it with `pip install -U "
            f"'dapo_trl[quantization]'`, or set {name} to false."
        )
    if not model_args.load_in_4bit:
        return
    # TRL unpacks 4-bit weights to the type in which the rest of the model is loaded.
    dtype, what = model_args.dtype, "dtype is also the type that 4-bit weights are unpacked to"
    if dtype in (None, "auto"):
        raise ValueError(
            f"dtype={dtype!r} with load_in_4bit=True: {what}, so it must be named. Set dtype to 'bfloat16', 'float16' "
            "or 'float32'."
        )
    for field, expected in {"bf16": "bfloat16", "fp16": "float16"}.items():
        if getattr(args, field) and dtype != expected:
            raise ValueError(
                f"dtype={dtype!r} with load_in_4bit=True and {field}=True: {what}, and the training computes in "
                f"{expected}. Set dtype to {expected!r}, or {field} to false."
            )


def _described(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


# When the trainer has been built


def check_policy(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, optimizer: torch.optim.Optimizer | None, args: DAPOConfig
) -> None:
    """Refuses a policy (with its adapters) that would not be trained, or that does not fit its tokenizer."""
    if is_peft_model(model):
        _check_adapters(model, args)
    check_trainable(model, args.fp16)
    if optimizer is not None and hasattr(optimizer, "param_groups"):  # DeepSpeed's placeholder has none
        _check_optimized(model, optimizer)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "processing_class has no eos_token, so that it is not known where a completion ends. Set "
            "tokenizer.eos_token to the token that ends the model's answers."
        )
    for name in ("eos_token", "pad_token"):
        check_token_id(getattr(tokenizer, f"{name}_id"), f"processing_class.{name}", tokenizer, model)


def _check_adapters(model: Any, args: DAPOConfig) -> None:
    name = type(model.active_peft_config).__name__
    if not isinstance(model.active_peft_config, PromptLearningConfig):
        if not isinstance(model.base_model, BaseTuner):
            raise ValueError(
                f"The adapter is a {name}, under which TRL does not find the model whose log-probabilities it needs. "
                "Train another adapter, such as LoRA."
            )
        _check_active_adapters(model)
    elif args.use_vllm:
        raise ValueError(
            f"The adapter is a {name}, whose virtual tokens vLLM does not know (use_vllm=True). Set use_vllm to "
            "false, or train another adapter, such as LoRA."
        )
    elif args.owns_batches:
        raise ValueError(
            f"The adapter is a {name}, whose virtual tokens stand before the padding, so that log-probabilities "
            f"depend on how a row is padded: dynamic_sampling={args.dynamic_sampling} and balance_micro_batches="
            f"{args.balance_micro_batches} change it. Train another adapter, such as LoRA, or set both to false."
        )


def _check_active_adapters(model: Any) -> None:
    status = model.get_model_status()
    if status.enabled is False:
        raise ValueError(
            f"model has adapters ({status.available_adapters}), but they are disabled, so that they would not be "
            "trained. Call model.base_model.enable_adapter_layers()."
        )
    active = status.active_adapters
    if isinstance(active, list) and not any(status.requires_grad.get(name) for name in active):
        raise ValueError(
            f"The active adapters of the model, {active}, are frozen (requires_grad is False); there are "
            f"{status.available_adapters}. Load the one to train with PeftModel.from_pretrained(..., is_trainable="
            "True), make it the active one (model.set_adapter), and leave inference_mode false in its configuration."
        )


def check_trainable(model: nn.Module, fp16: bool) -> None:
    """Refuses a model that no optimizer step would change, or not in mixed precision with float16."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError(
            f"model is a {type(model).__name__} with nothing to train: requires_grad is False for all of its "
            "parameters. Call model.requires_grad_(True), or pass a peft_config to train an adapter."
        )
    if fp16 and any(parameter.dtype == torch.float16 for parameter in trained):
        raise ValueError(
            "fp16=True needs trained weights in float32, but the model has some in float16, whose gradients cannot be "
            "unscaled. Load it with dtype 'float32', or set bf16 to true instead."
        )


def _check_optimized(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing = [name for name, parameter in trained.items() if id(parameter) not in optimized]
    if len(missing) == len(trained):
        raise ValueError(
            "optimizers: the optimizer has none of the parameters that are trained. Build it with this model's "
            "parameters, after get_peft_model if there are adapters, or leave it out."
        )
    if missing:
        logger.warning(
            f"optimizers: the optimizer lacks {len(missing)} of the {len(trained)} parameters with requires_grad, "
            f"such as {missing[0]}: they stay as they are. Freeze them, or add them to the optimizer."
        )


def check_token_id(number: int, place: str, tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> None:
    """Refuses a token id, found at `place`, that the model has no embedding for."""
    num_rows = num_embeddings(model)
    if number >= num_rows:
        raise ValueError(
            f"{place} has the token {tokenizer.convert_ids_to_tokens(number)!r} with the id {number}, but the model's "
            f"embedding has {num_rows} rows. Call model.resize_token_embeddings({num_tokens(tokenizer)}), or use the "
            "tokenizer that belongs to the model."
        )


def num_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that the tokenizer knows; some models are published with fewer embeddings."""
    return max(tokenizer.get_vocab().values()) + 1


def num_embeddings(model: Any) -> int:
    """Rows of the input embedding: token ids must be below."""
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    return rows or model.config.get_text_config().vocab_size


def max_positions(model: Any) -> tuple[int | None, bool]:
    """How long a sequence may be."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return None, False
    tokens = model.get_input_embeddings()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not tokens]
    return limit, any(limit <= table.num_embeddings < limit + 16 for table in tables)


# Warnings


@torch.no_grad()
def warn_of_other_reference(model: Any, reference: nn.Module, beta: float) -> None:
    """
    Warns if the reference of the KL term is another model than the one to train: TRL loads it by the model's name,
    which tells nothing of weights that have changed since, nor of a revision.
    """
    weights = dict(model.named_parameters())
    others = [
        name
        for name, weight in reference.named_parameters()
        if name in weights and not _are_equal(weight, weights[name])
    ]
    if others:
        logger.warning(
            f"beta={beta}: the reference model, loaded from {model.config._name_or_path!r}, differs from the model in "
            f"{len(others)} of {len(weights)} weights, such as {others[0]}: the KL term pulls to that model, not to "
            "the one that training begins with. If the latter is meant, save the model and pass its directory."
        )


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """As far as the coarser of the two types tells."""
    coarser = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    return one.shape == other.shape and torch.equal(one.to(coarser), other.to(one.device, coarser))


def warn_if_updates_vanish(model: nn.Module, learning_rate: float) -> None:
    """
    Warns if most updates of a model without float32 weights are lost in rounding: AdamW moves a weight by about the
    learning rate, and a number stays as it is if it is to change by less than half its precision.

    Adapters are passed over: the half of them that begins at zero moves by any step.
    """
    trained = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if is_peft_model(model) or not trained & {torch.bfloat16, torch.float16}:
        return
    dtype = max(trained, key=lambda dtype: torch.finfo(dtype).eps)
    least = USUAL_WEIGHT * torch.finfo(dtype).eps / 2
    if learning_rate < least:
        logger.warning(
            f"The weights are trained in {str(dtype).removeprefix('torch.')} without a float32 copy, and "
            f"learning_rate={learning_rate:g} is so small that most updates are lost in rounding: a weight of "
            f"{USUAL_WEIGHT} does not change by less than {least:.0e}. Load the model with dtype 'float32' (bf16=true "
            "computes in bfloat16 all the same), start with DeepSpeed, or train adapters (use_peft)."
        )


def warn_of_rate(model: nn.Module, args: DAPOConfig) -> None:
    """Warns of a learning rate for all weights where adapters are trained by Adam, and the other way round."""
    if "adam" not in str(getattr(args.optim, "value", args.optim)):
        return
    num_parameters = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
    rate = args.learning_rate
    if is_peft_model(model) and 0 < rate < LEAST_ADAPTER_RATE:
        logger.warning(
            f"learning_rate={rate:g} suits the training of all weights; adapters (use_peft) hardly move with less "
            f"than {LEAST_ADAPTER_RATE:g}. Set learning_rate to about ten times what all weights would get: 1e-5, say."
        )
    elif not is_peft_model(model) and rate > LARGEST_FULL_RATE and num_parameters >= LARGE_MODEL:
        logger.warning(
            f"learning_rate={rate:g} suits adapters (use_peft); all weights are trained here, which usually falls "
            f"apart above {LARGEST_FULL_RATE:g}. Set learning_rate to 1e-6 (the paper's value), or train adapters."
        )


# Dropout off: the policy that is trained is the one that generated, and a rollout begins with ratios of 1


def check_dropout(model: torch.nn.Module, is_off: bool) -> None:
    """
    Switches dropout off in the policy and its adapters, or warns of it if `is_off` (`disable_dropout`) is false.

    TRL does so for `torch.nn.Dropout` alone: attention, whole layers and most adapters keep theirs as a number.
    """
    configured = configured_dropout(model)
    listed = ", ".join(f"{name}={value:g}" for name, value in configured.items())
    if is_off:
        disable_dropout(model)
        if configured:
            logger.warning(
                f"Dropout is switched off, against {listed}: {WHY_OFF}. Set {' and '.join(configured)} to 0 to do "
                "without this warning, or disable_dropout to false to train with dropout all the same."
            )
    elif any(_probabilities(model)):
        logger.warning(
            f"disable_dropout=False, and the model has dropout{f' ({listed})' if listed else ''}: {WHY_OFF}. Set "
            "disable_dropout to true (the default)."
        )


def disable_dropout(model: torch.nn.Module) -> None:
    """Sets every dropout probability of the model's modules to 0."""
    for holder, name in _probabilities(model):
        holder[name] = 0.0


def configured_dropout(model: Any) -> dict[str, float]:
    """Dropout that the configuration of the model or of an adapter asks for: field and probability."""
    configs = [model.config.get_text_config(), *getattr(model, "peft_config", {}).values()]
    return {
        name: value
        for config in configs
        for name, value in vars(config).items()
        # Dropout of a classifier or a summary belongs to heads that a language model does not have.
        if "drop" in name and not name.startswith(("classifier", "summary")) and _is_positive(value)
    }


def _probabilities(model: torch.nn.Module) -> Iterator[tuple[dict, str]]:
    """Where the modules keep dropout probabilities above 0: a dictionary and the key in it."""
    for module in model.modules():
        for name, value in vars(module).items():
            if "drop" not in name and not (name == "p" and "Dropout" in type(module).__name__):
                continue
            if isinstance(value, dict):  # one for each adapter
                yield from ((value, key) for key in value if _is_positive(value[key]))
            elif _is_positive(value):
                yield vars(module), name


def _is_positive(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and value > 0
