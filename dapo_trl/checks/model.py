"""The model, its tokenizer and its optimizer: what would fail, or train nothing, only after a rollout."""

from typing import Any

import torch
import transformers
from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from peft import PeftModel, PromptLearningConfig
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations.fsdp import is_fsdp_enabled

from ..config import DAPOConfig


logger = get_logger(__name__)

FOR_A_CAUSAL_MODEL = "Load one with AutoModelForCausalLM.from_pretrained(...)."


# Before anything is loaded


def check_model(model: Any, processing_class: Any, trust_remote_code: bool = False) -> None:
    """
    Refuses what is no causal language model.

    Args:
        model (`str` or `PreTrainedModel` or `PeftModel`): as given to the trainer.
        processing_class (*optional*): as given to the trainer; None loads that of the model's name.
        trust_remote_code (`bool`): for a model by name.

    Raises:
        TypeError: for another kind of object.
        ValueError: for a model that cannot generate, or that has not what the trainer reads of it.
    """
    if isinstance(model, str):
        _check_architecture(model, trust_remote_code)
        return
    base = getattr(model, "_orig_mod", model)  # of torch.compile
    if isinstance(base, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TypeError(
            f"model is a {type(base).__name__}, but the trainer wraps models itself. Pass the model inside of it "
            "(model.module)."
        )
    if not isinstance(base, PreTrainedModel | PeftModel):
        raise TypeError(
            f"model is {_described(model)}, but it must be the name or path of a model, a PreTrainedModel, or a "
            "PeftModel of one."
        )
    base = base.get_base_model() if isinstance(base, PeftModel) else base
    if not base.can_generate() or base.config.is_encoder_decoder:
        raise ValueError(f"model is a {type(base).__name__}, which is no causal language model. {FOR_A_CAUSAL_MODEL}")
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
    """
    Refuses a model to which TRL could not make the reference of the KL term.

    Args:
        model (`str` or `PreTrainedModel` or `PeftModel`): as given to the trainer.
        peft_config (`PeftConfig`, *optional*): as given to the trainer.
        beta (`float`): weight of the KL term; without it there is no reference.

    Raises:
        ValueError: for adapters by other names than TRL's, and for a model that cannot be loaded once more.
    """
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


# When the trainer has been built


@torch.no_grad()
def warn_of_other_reference(model: nn.Module, reference: nn.Module, beta: float) -> None:
    """
    Warns if the reference of the KL term is another model than the one to train: TRL loads it by the model's name,
    which tells nothing of weights that have changed since, nor of a revision.

    Args:
        model (`nn.Module`): the policy before training.
        reference (`nn.Module`): the reference model.
        beta (`float`): weight of the KL term.
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


def check_policy(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer | None,
    args: DAPOConfig,
) -> None:
    """
    Refuses a policy that would not be trained, or that does not fit its tokenizer.

    Args:
        model (`nn.Module`): the policy, with its adapters.
        tokenizer (`PreTrainedTokenizerBase`): the trainer's.
        optimizer (*optional*): as given to the trainer; None is built by it.
        args (`DAPOConfig`): how it is trained.

    Raises:
        ValueError: the message says what to change.
    """
    if is_peft_model(model):
        if isinstance(model.active_peft_config, PromptLearningConfig):
            _check_prompt_learning(model.active_peft_config, args)
        elif isinstance(model.base_model, BaseTuner):
            _check_active_adapters(model)
        else:
            raise ValueError(
                f"The adapter is a {type(model.active_peft_config).__name__}, under which TRL does not find the model "
                "whose log-probabilities it needs. Train another adapter, such as LoRA."
            )
    check_trainable(model, args.fp16)
    check_optimized(model, optimizer)
    check_special_tokens(tokenizer, model)


def check_trainable(model: nn.Module, fp16: bool) -> None:
    """
    Refuses a model that no optimizer step would change.

    Args:
        model (`nn.Module`): the policy, with its adapters.
        fp16 (`bool`): whether it is trained in mixed precision with float16.

    Raises:
        ValueError: if no parameter can be trained, or not in this precision.
    """
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


def _check_prompt_learning(config: PromptLearningConfig, args: DAPOConfig) -> None:
    name = type(config).__name__
    if args.use_vllm:
        raise ValueError(
            f"The adapter is a {name}, whose virtual tokens vLLM does not know (use_vllm=True). Set use_vllm to "
            "false, or train another adapter, such as LoRA."
        )
    if args.owns_batches:
        raise ValueError(
            f"The adapter is a {name}, whose virtual tokens stand before the padding, so that log-probabilities "
            f"depend on how a row is padded: dynamic_sampling={args.dynamic_sampling} and balance_micro_batches="
            f"{args.balance_micro_batches} cut it. Train another adapter, such as LoRA, or set both to false."
        )


def _check_active_adapters(model: nn.Module) -> None:
    status = model.get_model_status()
    if status.enabled is False:
        raise ValueError(
            f"model has adapters ({status.available_adapters}), but they are disabled, so that they would not be "
            "trained. Call model.base_model.enable_adapter_layers()."
        )
    active = status.active_adapters
    if isinstance(active, list) and not any(status.requires_grad.get(name) for name in active):
        raise ValueError(
            f"The active adapters of the model, {active}, are frozen (requires_grad is False), so that nothing would "
            f"be trained; there are {status.available_adapters}. Load the one to train with "
            "PeftModel.from_pretrained(..., is_trainable=True), make it the active one (model.set_adapter), and leave "
            "inference_mode false in the configuration of an adapter."
        )


def check_optimizers(optimizers: Any) -> None:
    """
    Refuses what is no pair of an optimizer and its scheduler.

    Raises:
        TypeError: if it is no pair.
        ValueError: if the scheduler belongs to another optimizer.
    """
    if not isinstance(optimizers, tuple | list) or len(optimizers) != 2:
        raise TypeError(
            f"optimizers is {_described(optimizers)}, but it must be a pair (optimizer, scheduler), each of which may "
            "be None."
        )
    optimizer, scheduler = optimizers
    if scheduler is not None and getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            "optimizers=(optimizer, scheduler): the scheduler belongs to another optimizer than the one beside it, so "
            "that the learning rate would never change. Build it on that optimizer, or pass None for it."
        )


def check_optimized(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """
    Refuses an optimizer of other parameters than those that are trained, and warns if it lacks some.

    Args:
        model (`nn.Module`): the policy, with its adapters.
        optimizer (*optional*): as given to the trainer; None is built by it.

    Raises:
        ValueError: if the optimizer has none of the model's trained parameters.
    """
    if not hasattr(optimizer, "param_groups"):
        return  # none, or DeepSpeed's placeholder
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    lacking = [name for name, parameter in trained.items() if id(parameter) not in optimized]
    if len(lacking) == len(trained):
        raise ValueError(
            "optimizers: the optimizer has none of the parameters that are trained, so that nothing would change "
            "(was it built for another model, or before the adapters were added?). Build it with this model's "
            "parameters, after get_peft_model if there are adapters, or leave it out."
        )
    if lacking:
        logger.warning(
            f"optimizers: the optimizer lacks {len(lacking)} of the {len(trained)} parameters with requires_grad, "
            f"such as {lacking[0]}: they stay as they are. Freeze them, or add them to the optimizer."
        )


def check_special_tokens(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> None:
    """
    Refuses a tokenizer whose padding or end of text the model does not know.

    Raises:
        ValueError: naming the token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "processing_class has no eos_token, so that it is not known where a completion ends. Set "
            "tokenizer.eos_token to the token that ends the model's answers."
        )
    for name in ("eos_token", "pad_token"):
        check_token_id(getattr(tokenizer, f"{name}_id"), f"processing_class.{name}", tokenizer, model)


def check_token_id(number: int, place: str, tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> None:
    """
    Refuses a token that the model has no embedding for.

    Args:
        number (`int`): its id.
        place (`str`): where it stands.
        tokenizer (`PreTrainedTokenizerBase`): the trainer's.
        model (`nn.Module`): the policy.

    Raises:
        ValueError: naming the token.
    """
    num_rows = num_embeddings(model)
    if number >= num_rows:
        raise ValueError(
            f"{place} has the token {tokenizer.convert_ids_to_tokens(number)!r} with the id {number}, but the model's "
            f"embedding has {num_rows} rows. Call model.resize_token_embeddings({_num_tokens(tokenizer)}), or use the "
            "tokenizer that belongs to the model."
        )


def has_tokens_beyond(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> bool:
    """Whether the tokenizer knows tokens that the model has no embedding for; some models are published so."""
    return _num_tokens(tokenizer) > num_embeddings(model)


def num_embeddings(model: nn.Module) -> int:
    """Rows of the input embedding: token ids must be below."""
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    return rows or model.config.get_text_config().vocab_size


def max_positions(model: nn.Module) -> tuple[int | None, bool]:
    """
    How long a sequence may be.

    Returns:
        `tuple[int | None, bool]`: `max_position_embeddings` in tokens, None if the model has no such bound, and
        whether positions beyond it are an error, because each has an embedding of its own.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return None, False
    tokens = model.get_input_embeddings()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module is not tokens]
    return limit, any(limit <= table.num_embeddings < limit + 16 for table in tables)


def _num_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    return max(tokenizer.get_vocab().values()) + 1


def _described(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
