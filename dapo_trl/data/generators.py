"""Completions for the difficulty filter: from a Transformers model, or from an OpenAI-compatible server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..generation.openai_client import OpenAIServer
from .prompts import Messages


class Generator(Protocol):
    """Anything that samples completions."""

    def generate(self, prompts: Sequence[str | Messages], k: int) -> list[list[str]]:
        """`k` completions for each prompt, in the order of the prompts."""


class TransformersGenerator:
    """
    Samples with a Transformers model on this machine.

    Args:
        model (`str`):
            Hub id or path.
        max_completion_length (`int`, *optional*, defaults to 2048):
            Longest completion in tokens.
        temperature (`float`, *optional*, defaults to 1.0):
            Sampling temperature.
        seed (`int`, *optional*, defaults to 42):
            Seed: the same machine, prompts and batch size give the same completions.
    """

    def __init__(self, model: str, *, max_completion_length: int = 2048, temperature: float = 1.0, seed: int = 42):
        from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

        set_seed(seed)
        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype="auto", device_map="auto").eval()
        self.options = {"max_new_tokens": max_completion_length, "do_sample": True, "temperature": temperature}

    def generate(self, prompts: Sequence[str | Messages], k: int) -> list[list[str]]:
        """`k` completions for each prompt; all rows of one call are padded together."""
        import torch

        from ..generation.compact import dropping_ended_rows

        inputs = self.tokenizer(
            [self._text(prompt) for prompt in prompts],
            padding=True,
            return_tensors="pt",
            # The chat template has written the special tokens already.
            add_special_tokens=isinstance(prompts[0], str),
        ).to(self.model.device)
        with torch.inference_mode(), dropping_ended_rows(self.model, self.model.generation_config):
            output = self.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                num_return_sequences=k,
                top_k=0,
                top_p=1.0,
                pad_token_id=self.tokenizer.pad_token_id,
                **self.options,
            )
        texts = self.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [texts[start : start + k] for start in range(0, len(texts), k)]

    def _text(self, prompt: str | Messages) -> str:
        if isinstance(prompt, str):
            return prompt
        return self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)


@dataclass
class ServerGenerator:
    """
    Samples from an OpenAI-compatible server (vLLM, SGLang, llama.cpp, ...): texts through `/completions`, messages
    through `/chat/completions`.

    Args:
        server ([`~dapo_trl.generation.openai_client.OpenAIServer`]):
            The server.
        max_completion_length (`int`, *optional*, defaults to 2048):
            Longest completion in tokens.
        temperature (`float`, *optional*, defaults to 1.0):
            Sampling temperature.
        seed (`int`, *optional*, defaults to 42):
            Sent with every request.
    """

    server: OpenAIServer
    max_completion_length: int = 2048
    temperature: float = 1.0
    seed: int = 42

    def generate(self, prompts: Sequence[str | Messages], k: int) -> list[list[str]]:
        """
        `k` completions for each prompt.

        Raises:
            ConnectionError: if a request fails for good, with the address and the server's answer.
        """
        texts: list[list[str]] = [[] for _ in prompts]

        def keep(number: int, answer: dict[str, Any]) -> None:
            texts[number] = self._texts(prompts[number], answer, k)

        self.server.post_all((self._request(prompt, k) for prompt in prompts), keep)
        return texts

    def _request(self, prompt: str | Messages, k: int) -> tuple[str, dict[str, Any]]:
        is_text = isinstance(prompt, str)
        return "completions" if is_text else "chat/completions", {
            ("prompt" if is_text else "messages"): prompt,
            "n": k,
            "max_tokens": self.max_completion_length,
            "temperature": self.temperature,
            "top_p": 1.0,
            "seed": self.seed,
        }

    def _texts(self, prompt: str | Messages, answer: dict[str, Any], k: int) -> list[str]:
        choices = answer.get("choices", [])
        if len(choices) != k:
            raise ConnectionError(
                f"{self.server.url} answered with {len(choices)} completions instead of n={k}. The server must "
                "support `n`."
            )
        is_text = isinstance(prompt, str)
        return [(choice["text"] if is_text else choice["message"]["content"]) or "" for choice in choices]
