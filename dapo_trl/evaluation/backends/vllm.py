"""Completions from vLLM in this process, by its own scheduler, every request with its own seed."""

from collections.abc import Sequence
from typing import Any

from ..completions import Completion, Request, Save
from ..config import PLAIN_SAMPLING, EvaluateConfig
from ..model import ModelFiles


_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM accepts as the largest."""


def sample_with_vllm(
    config: EvaluateConfig, files: ModelFiles, tokenizer: str, requests: Sequence[Request], save: Save
) -> None:
    """Samples a completion for every request; an ImportError if vLLM is not installed."""
    try:
        from vllm import LLM, SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind
    except ImportError as error:
        raise ImportError(
            f"backend='vllm' needs vLLM, which cannot be imported ({error}). Install it with pip install "
            "dapo_trl[vllm], or evaluate with --backend transformers, or with --server_url through a server."
        ) from error
    longest_prompt = max(len(request.prompt_ids) for request in requests)
    engine = LLM(**engine_options(config, files, tokenizer, longest_prompt)).llm_engine
    adapter = None if files.adapter is None else LoRARequest("adapter", 1, files.name)
    for number, request in enumerate(requests):
        params = SamplingParams(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k or -1,
            max_tokens=config.max_completion_length,
            seed=request.seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **PLAIN_SAMPLING,
        )
        engine.add_request(str(number), {"prompt_token_ids": request.prompt_ids}, params, lora_request=adapter)
    # Not `LLM.generate`, which returns when all are done: a stopped evaluation would have nothing to show.
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                (choice,) = output.outputs
                completion = Completion(choice.text, len(choice.token_ids), choice.finish_reason == "length")
                save(requests[int(output.request_id)], completion)


def engine_options(config: EvaluateConfig, files: ModelFiles, tokenizer: str, longest_prompt: int) -> dict[str, Any]:
    """Arguments of `vllm.LLM`: room for the longest sequence, and no more, unless `vllm_extra` says otherwise."""
    options = {
        "model": files.base,
        "revision": files.base_revision,
        "trust_remote_code": files.trust_remote_code,
        "tokenizer": tokenizer,
        "dtype": config.dtype,
        "max_model_len": longest_prompt + config.max_completion_length,
        "tensor_parallel_size": config.tensor_parallel_size,
        "gpu_memory_utilization": config.gpu_memory_utilization,
    }
    if files.adapter is not None:
        rank = next(allowed for allowed in _LORA_RANKS if allowed >= files.adapter.r)
        options |= {"enable_lora": True, "max_lora_rank": rank}
    assert not isinstance(config.vllm_extra, str)  # read with the settings
    return options | (config.vllm_extra or {})
