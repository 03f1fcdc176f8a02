"""Weights of a model with adapters as a server needs them: merged one layer at a time, the base weights untouched."""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from torch import nn


QUANTIZED = ("Params4bit", "Int8Params")
"""Classes of parameters that hold packed integers, which a server cannot load."""


def merged_params(
    model: PeftModel, gather: Callable[[list[nn.Parameter]], AbstractContextManager]
) -> Iterator[tuple[str, torch.Tensor]]:
    r"""
    Parameters of the model that its adapters amount to.

    Merging the adapters into the model, sending it and unmerging them rounds the base weights twice at every call: in
    bfloat16 they drift away. Here every weight is merged on the side,

    $$ W' = W + \frac{\alpha}{r} B A, $$

    so that $W$ never changes and no more than one layer is held twice. Quantized weights are sent dequantized.

    Args:
        model (`PeftModel`): the model.
        gather (`Callable`): context manager in which the given parameters are whole, on every process.

    Yields:
        `tuple[str, torch.Tensor]`: name in the base model and value, valid until the next one is asked for.
    """
    adapted = adapted_modules(model)
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        if model.prefix in name or "original_module" in name:
            continue  # the adapters' own, and what trained copies replace
        module = modules[name.rpartition(".")[0]]
        layers = adapted.get(module, [])
        with gather(_parameters_of([module, *layers])):
            if type(parameter).__name__ in QUANTIZED:
                yield base_name(name), dequantized(module, layers).to(model.dtype)
            elif layers:
                with merged_on_the_side(module, layers):
                    yield base_name(name), getattr(module, name.rpartition(".")[2]).data
            else:
                yield base_name(name), parameter.data


def base_name(name: str) -> str:
    """Name that a parameter of the `PeftModel` has in the base model."""
    name = name.removeprefix("base_model.model.").replace(".base_layer", "")
    return name.replace("modules_to_save.default.", "").replace("_checkpoint_wrapped_module.", "")


def adapted_modules(model: nn.Module) -> dict[nn.Module, list[BaseTunerLayer]]:
    """The base modules under adapters, each with the adapter layers around it."""
    adapted = defaultdict(list)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            adapted[module.get_base_layer()].append(module)
    return adapted


@contextlib.contextmanager
def merged_on_the_side(module: nn.Module, layers: list[BaseTunerLayer]) -> Iterator[None]:
    """Inside, the module holds merged copies of its weights; afterwards, the very tensors that it held before."""
    originals = {parameter: parameter.data for parameter in module.parameters(recurse=False)}
    try:
        with torch.no_grad():
            for parameter, original in originals.items():
                parameter.data = original.clone()
            for layer in layers:
                layer.merge()
        yield
    finally:
        with torch.no_grad():
            for layer in reversed(layers):
                if layer.merged:
                    layer.unmerge()  # for its own book-keeping: the result is thrown away
        for parameter, original in originals.items():
            parameter.data = original


def check_quantized(model: nn.Module, mode: str) -> None:
    """
    Refuses a quantized model whose weights could not be sent. Any other model passes.

    Args:
        model (`nn.Module`): with or without adapters.
        mode (`str`): `vllm_mode`.

    Raises:
        ValueError: in colocated mode, or for adapters that are more than a summand.
    """
    layers = [layer for module, around in adapted_modules(model).items() if _is_quantized(module) for layer in around]
    if layers and mode == "colocate":
        raise ValueError(
            "vllm_mode='colocate' cannot be combined with a quantized model: vLLM would quantize its own copy, which "
            "takes no merged weights. Set vllm_mode to 'server', or load_in_4bit and load_in_8bit to false."
        )
    variants = {type(variant).__name__ for layer in layers for variant in layer.lora_variant.values()}
    if variants:
        raise ValueError(
            f"Adapters of the kind {', '.join(sorted(variants))} on a quantized model cannot be sent to vLLM. Use "
            "plain LoRA (use_dora: false), or set load_in_4bit and load_in_8bit to false."
        )


def dequantized(module: nn.Module, layers: list[BaseTunerLayer]) -> torch.Tensor:
    """Weight of a quantized module with its adapters, in float32."""
    weight = dequantize_module_weight(module).data.float()
    with torch.no_grad():
        for layer in layers:
            for adapter in set(layer.active_adapters) & layer.lora_A.keys():
                weight = weight + layer.get_delta_weight(adapter).float()
    return weight


@contextlib.contextmanager
def restored_base_weights(model: nn.Module) -> Iterator[None]:
    """
    Puts the weights under adapters back afterwards, from a copy in CPU memory.

    For sharded models (FSDP), whose layers cannot be merged one at a time.
    """
    parameters = [p for module in adapted_modules(model) for p in module.parameters(recurse=False)]
    copies = [parameter.detach().to("cpu", copy=True) for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, kept in zip(parameters, copies, strict=True):
                parameter.copy_(kept)


def _is_quantized(module: nn.Module) -> bool:
    return any(type(parameter).__name__ in QUANTIZED for parameter in module.parameters(recurse=False))


def _parameters_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The modules' own parameters and those of their adapters, each once."""
    parameters = {}
    for module in modules:
        is_adapter = isinstance(module, BaseTunerLayer)
        for name, parameter in module.named_parameters(recurse=is_adapter):
            if not is_adapter or not name.startswith("base_layer"):
                parameters[parameter] = None
    return list(parameters)
