"""Weights of a model with adapters as a server needs them: merged one layer at a time, the base weights untouched."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import AuxiliaryTrainingWrapper, ModulesToSaveWrapper, TrainableTokensWrapper
from peft.utils.integrations import dequantize_module_weight
from torch import nn


AdapterLayer = Any  # a `BaseTunerLayer` and an `nn.Module`, for which Python has no type

QUANTIZED = ("Params4bit", "Int8Params")  # classes of parameters that hold packed integers, which a server cannot load


def merged_params(
    model: PeftModel, gather: Callable[[list[nn.Parameter]], AbstractContextManager]
) -> Iterator[tuple[str, torch.Tensor]]:
    r"""
    Names and values of the parameters that base model and adapters amount to, $W' = W + \frac{\alpha}{r} B A$.
    Merging and unmerging the model would round the base weights twice at every call: in bfloat16 they drift away. Here
    every weight is merged on the side: $W$ never changes, and no more than one layer is held twice. Quantized weights
    are sent dequantized. `gather` makes parameters whole, on every process. A value never changes once it is handed
    out: vLLM copies nothing before it has collected 1 GiB or everything.
    """
    sent = set()
    for name, module, layers in base_modules(model.get_base_model()):
        for attribute, parameter in list(module.named_parameters(recurse=False)):
            if parameter in sent:
                continue  # tied
            sent.add(parameter)
            with gather(_parameters_of((module, *layers))):
                if type(parameter).__name__ in QUANTIZED:
                    yield f"{name}.{attribute}", dequantized(module, layers).to(model.dtype)
                elif layers and not _is_quantized(module):
                    yield f"{name}.{attribute}", merged(module, layers, attribute)
                else:
                    yield f"{name}.{attribute}", parameter.data


def base_modules(
    module: Any, name: str = "", layers: tuple[AdapterLayer, ...] = ()
) -> Iterator[tuple[str, nn.Module, tuple[AdapterLayer, ...]]]:
    """Name in the base model, module, and its adapter layers (outermost first); trained copies replace originals."""
    adapter: Any = module
    if isinstance(module, BaseTunerLayer):
        yield from base_modules(adapter.base_layer, name, (*layers, module))
    elif isinstance(module, TrainableTokensWrapper):
        yield from base_modules(module.token_adapter, name, layers)
    elif isinstance(module, ModulesToSaveWrapper):
        copies, active = module.modules_to_save, module.active_adapters
        is_replaced = bool(active) and all(adapter in copies for adapter in active)
        yield from base_modules(copies[active[0]] if is_replaced else module.original_module, name, layers)
    else:
        yield name, module, layers
        for child_name, child in module.named_children():
            is_wrapped = child_name == "_checkpoint_wrapped_module"
            yield from base_modules(child, name if is_wrapped else f"{name}.{child_name}".removeprefix("."))


def merged(module: nn.Module, layers: Sequence[AdapterLayer], name: str) -> torch.Tensor:
    """A parameter with the adapters around its module, as a tensor of its own; the module keeps its very tensors."""
    originals = {parameter: parameter.data for parameter in module.parameters(recurse=False)}
    with torch.no_grad():
        try:
            for parameter, original in originals.items():
                parameter.data = original.clone()
            for layer in layers:
                layer.merge()
            return getattr(layers[0].get_base_layer(), name).data
        finally:
            # Layers unmerge in place, for their own book-keeping: not in what is returned, nor in what was there.
            for parameter, original in originals.items():
                parameter.data = torch.empty_like(original)
            for layer in reversed(layers):
                if layer.merged:
                    layer.unmerge()
            for parameter, original in originals.items():
                parameter.data = original


def check_adapters(model: nn.Module, mode: str) -> None:
    """Refuses adapters that vLLM could not be sent as weights of the base model."""
    if not isinstance(model, PeftModel):
        return
    around = {module: layers for _, module, layers in base_modules(model) if layers}
    adapter_types = {type(layer) for layers in around.values() for layer in layers}
    without_merge = {kind.__name__ for kind in adapter_types if kind.merge is BaseTunerLayer.merge}
    if model.active_peft_config.is_prompt_learning or not around:
        without_merge.add(type(model.active_peft_config).__name__)
    if without_merge:
        raise ValueError(
            f"Adapters of the kind {', '.join(sorted(without_merge))} cannot be merged into the model's weights, "
            "which is how vLLM gets them. Use LoRA, or set use_vllm to false."
        )
    if not _has_one_embedding(model):
        raise ValueError(
            "This model's input embeddings and LM head are one matrix (tie_word_embeddings is true), of which vLLM "
            "holds a single copy, but the adapters train the two apart. Leave both out of lora_target_modules and "
            "lora_modules_to_save, or set ensure_weight_tying=True in the LoraConfig."
        )
    layers = [layer for module, layers in around.items() if _is_quantized(module) for layer in layers]
    if layers and mode == "colocate":
        raise ValueError(
            "vllm_mode='colocate' cannot be combined with a quantized model: vLLM would quantize its own copy, which "
            "takes no merged weights. Set vllm_mode to 'server', or load_in_4bit and load_in_8bit to false."
        )
    kinds = {kind for layer in layers for kind in _kinds_besides_summands(layer)}
    if kinds:
        raise ValueError(
            f"Adapters of the kind {', '.join(sorted(kinds))} on a quantized model cannot be sent to vLLM. Use "
            "plain LoRA (use_dora: false), or set load_in_4bit and load_in_8bit to false."
        )


def dequantized(module: nn.Module, layers: Sequence[AdapterLayer]) -> torch.Tensor:
    """Weight of a quantized module with its adapters, in float32."""
    weight = dequantize_module_weight(module).data.float()
    with torch.no_grad():
        for layer in layers:
            for adapter in set(layer.active_adapters) & layer.lora_A.keys():
                weight = weight + layer.get_delta_weight(adapter).float()
    return weight


@contextlib.contextmanager
def restored_base_weights(model: nn.Module) -> Iterator[None]:
    """Puts weights under adapters back, from a copy on the CPU: FSDP's layers cannot be merged one at a time."""
    parameters = [p for _, module, layers in base_modules(model) if layers for p in module.parameters(recurse=False)]
    copies = [parameter.detach().to("cpu", copy=True) for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, kept in zip(parameters, copies, strict=True):
                parameter.copy_(kept)


def _kinds_besides_summands(layer: BaseTunerLayer) -> list[str]:
    """What the layer does besides adding to the weight, by its names."""
    if not isinstance(layer, LoraLayer):
        return [type(layer).__name__]
    variants = [type(variant).__name__ for variant in layer.lora_variant.values()]
    return [*variants, "lora_bias"] if any(layer.lora_bias.values()) else variants


def _has_one_embedding(model: PeftModel) -> bool:
    """Whether a model of tied embeddings still computes with one matrix, whatever its adapters become."""
    ends = [module for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module is not None]
    if not set.intersection(*(set(_base_of(module).parameters()) for module in ends)):
        return True
    if all(getattr(model.peft_config[name], "ensure_weight_tying", False) for name in model.active_adapters):
        return True
    return len({frozenset(module.parameters()) for module in ends}) == 1


def _base_of(module: Any) -> nn.Module:
    """What a module was before it got adapters or a trained copy."""
    if isinstance(module, AuxiliaryTrainingWrapper):
        return _base_of(module.original_module)
    layer: Any = module
    return _base_of(layer.base_layer) if isinstance(module, BaseTunerLayer) else module


def _is_quantized(module: nn.Module) -> bool:
    return any(type(parameter).__name__ in QUANTIZED for parameter in module.parameters(recurse=False))


def _parameters_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The modules' own parameters and those of their adapters, each once."""
    parameters: dict[nn.Parameter, None] = {}
    for module in modules:
        is_adapter = isinstance(module, BaseTunerLayer)
        for name, parameter in module.named_parameters(recurse=is_adapter):
            if not is_adapter or not name.startswith("base_layer"):
                parameters[parameter] = None
    return list(parameters)
