"""Completions from vLLM in this process."""

from collections.abc import Sequence
from typing import Any

from ..completions import Completion, Request, Save
from ..config import PLAIN_SAMPLING, EvaluateConfig
from ..model import ModelFiles
from ..prompts import PromptEncoder


class VLLMBackend:
    """
    Samples with vLLM's own scheduler, every request with its own seed.

    Args:
        config ([`EvaluateConfig`]): the settings.
        files ([`ModelFiles`]): the model.
        encoder ([`PromptEncoder`]): makes tokens of prompts.

    Raises:
        ImportError: if vLLM, which is not among the requirements of this package, is not installed.
    """

    def __init__(self, config: EvaluateConfig, files: ModelFiles, encoder: PromptEncoder):
        try:
            import vllm  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"backend='vllm' needs vLLM, which cannot be imported ({error}). Install it with pip install "
                "dapo_trl[vllm], or evaluate with --backend transformers, or with --server_url through a server."
            ) from error
        self.config = config
        self.files = files
        self.encoder = encoder

    def sample(self, requests: Sequence[Request], save: Save) -> None:
        """Samples a completion for every request."""
        engine = self._start(self.encoder.longest((request.problem_id, request.prompt) for request in requests))
        adapter = None
        if self.files.adapter is not None:
            from vllm.lora.request import LoRARequest

            adapter = LoRARequest("adapter", 1, self.files.name)
        for number, request in enumerate(requests):
            prompt = {"prompt_token_ids": self.encoder(request.problem_id, request.prompt)}
            engine.add_request(str(number), prompt, self._params(request), lora_request=adapter)
        # Not `LLM.generate`, which returns when all are done: a stopped evaluation would have nothing to show.
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    (choice,) = output.outputs
                    completion = Completion(choice.text, len(choice.token_ids), choice.finish_reason == "length")
                    save(requests[int(output.request_id)], completion)

    def _start(self, longest_prompt: int) -> Any:
        """An engine with room for the longest sequence, and no more, unless `vllm_extra` says otherwise."""
        from vllm import LLM

        options = {
            "model": self.files.base,
            "revision": self.files.base_revision,
            "trust_remote_code": self.files.trust_remote_code,
            "tokenizer": self.encoder.tokenizer.name_or_path,
            "dtype": self.config.dtype,
            "max_model_len": longest_prompt + self.config.max_completion_length,
            "tensor_parallel_size": self.config.tensor_parallel_size,
            "gpu_memory_utilization": self.config.gpu_memory_utilization,
        }
        if self.files.adapter is not None:
            # The ranks that vLLM accepts.
            ranks = (8, 16, 32, 64, 128, 256, 320, 512)
            rank = next(allowed for allowed in ranks if allowed >= self.files.adapter.r)
            options |= {"enable_lora": True, "max_lora_rank": rank}
        return LLM(**options | (self.config.vllm_extra or {})).llm_engine

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=self.config.temperature,
            top_p=self.config.top_p,
            top_k=self.config.top_k or -1,
            max_tokens=self.config.max_completion_length,
            seed=request.seed,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **PLAIN_SAMPLING,
        )
