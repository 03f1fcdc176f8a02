"""TRL's generation with vLLM, with a server that is checked, may fail, and comes back; and adapters without drift."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import requests
import torch
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list, is_peft_model
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer import grpo_trainer

from ...config import DAPOConfig
from .adapters import check_adapters, merged_params, restored_base_weights
from .claim import Claim
from .client import GuardedClient
from .command import longest_prompt
from .comparison import find_difference, text_ids, tolerance
from .groups import group_seed
from .preflight import Requirements, ServerMismatchError, UnreachableError, check_server, trainer_gpus, wait_for_server


logger = get_logger(__name__)

Result = TypeVar("Result")

FIRST_DELAY = 2.0
"""Seconds before the first of the further attempts; doubled before every other."""

RESUME = "A checkpoint from before this rollout is saved (unless save_strategy is 'no'): resume from it."


CAUSES = (
    "Most likely it serves another model under this name (more layers, another rope scaling, --hf-overrides, "
    "--quantization) or another version of it (--revision), and what the trainer does not send stays as it is. Start "
    "it with the very files that the trainer loads, and the options that `dapo-trl vllm-command` prints."
)


class ServerError(RuntimeError):
    """The server failed and did not come back as the one it was. The run ends with a checkpoint."""


@dataclass(frozen=True)
class ServerSettings:
    """
    How this run treats its server.

    Args:
        num_retries (`int`): further attempts after a fault.
        request_timeout (`float`): seconds after which a request without an answer counts as hung.
        count_prompt_tokens (`Callable`): takes the tokenizer and returns the tokens of the longest prompt.
        needs_processed_logprobs (`bool`): see [`Requirements`].
        seed (`int`): of the run.
        global_step (`Callable`): optimizer steps taken so far.
    """

    num_retries: int
    request_timeout: float
    count_prompt_tokens: Callable[[Any], int]
    needs_processed_logprobs: bool
    seed: int
    global_step: Callable[[], int]


def server_settings(
    args: DAPOConfig, train_dataset: Any, eval_dataset: Any, global_step: Callable[[], int]
) -> ServerSettings:
    """What the trainer's arguments say of the server."""
    eval_datasets = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
    datasets = [train_dataset, *eval_datasets]
    return ServerSettings(
        num_retries=args.vllm_max_retries,
        request_timeout=args.vllm_request_timeout,
        count_prompt_tokens=lambda tokenizer: longest_prompt(datasets, tokenizer, args.chat_template_kwargs),
        needs_processed_logprobs=args.vllm_importance_sampling_correction,
        seed=args.seed,
        global_step=global_step,
    )


@contextlib.contextmanager
def generating_with(settings: ServerSettings) -> Iterator[None]:
    """Inside, a `GRPOTrainer` that is built with `use_vllm` generates with [`Generation`]."""
    original = grpo_trainer.VLLMGeneration
    grpo_trainer.VLLMGeneration = partial(Generation, settings=settings)
    try:
        yield
    finally:
        grpo_trainer.VLLMGeneration = original


class Generation(VLLMGeneration):
    """
    [`~trl.generation.vllm_generation.VLLMGeneration`] for runs of days.

    In server mode the server is checked before TRL connects to it. A request that fails is repeated a bounded number
    of times with growing pauses; before, the server is waited for, checked again, and gets the weights anew, because
    it may have been restarted. A restart is noticed even if no request fails: the weights that are sent carry a mark,
    and an answer counts only if the server still bears it. The same mark keeps other runs away (see [`Claim`]).
    Every group of completions is a request with a seed of its own (see [`group_seed`]).

    Every process takes part in everything and learns of every fault, because sending weights gathers them.

    Args:
        settings (`ServerSettings`): how the server is treated.
        *args, **kwargs: see [`~trl.generation.vllm_generation.VLLMGeneration`].

    Attributes:
        score (`Callable`, *optional*):
            Takes token ids and returns the trainer's log-probabilities from the second on, at temperature 1. With it,
            what the server computes is compared after the first weights, and after every fault.
    """

    score: Callable[[list[int]], torch.Tensor] | None = None

    def __init__(self, *args, settings: ServerSettings, **kwargs):
        self.settings = settings
        self._requirements: Requirements | None = None
        self._claim: Claim | None = None
        self._is_connected = False
        self._is_compared = False
        self._draw: tuple[str, int, int] = ("", 0, 0)
        super().__init__(*args, **kwargs)

    def _init_vllm(self):
        check_adapters(self.model, self.mode)
        if self.mode == "server":
            error = None
            if self.accelerator.is_main_process:
                error = self._find_mismatch()
            error = self._broadcast(error)
            if error is not None:
                raise error
        super()._init_vllm()
        if self.mode == "server" and self.accelerator.is_main_process:
            self.vllm_client = GuardedClient(self.vllm_client, self.settings.request_timeout, self._claim)
            self._is_connected = True

    def _iter_named_params(self):
        if self._dist.is_fsdp:
            with restored_base_weights(self.model):
                for name, value in super()._iter_named_params():
                    # What is handed out must not change when the adapters are unmerged, or be freed (FSDP1).
                    yield name, value.clone()
        elif is_peft_model(self.model):
            yield from merged_params(self.model, self._dist.gather_params)
        else:
            yield from super()._iter_named_params()

    def sync_weights(self):
        if self.mode != "server":
            return super().sync_weights()
        return self._repeated(self._sync_and_mark)

    def generate(self, *args, **kwargs):
        if self.mode != "server":
            return super().generate(*args, **kwargs)
        with self._seeded():
            return self._repeated(partial(super().generate, *args, **kwargs))

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """Inside, groups have the seeds of this draw: the same if it is repeated, also by a run that is resumed."""
        moment = "training" if self.model.training else "evaluation", self.settings.global_step()
        self._draw = (*moment, self._draw[-1] + 1 if self._draw[:2] == moment else 0)
        if not self.accelerator.is_main_process:
            yield
            return
        self.vllm_client.group_seed = partial(group_seed, self.settings.seed, *self._draw)
        try:
            yield
        finally:
            self.vllm_client.group_seed = None

    def release(self) -> None:
        """Lets the next run have the server; what is sent later takes it again."""
        if self.mode == "server" and self.accelerator.is_main_process:
            self.vllm_client.release()

    def _sync_and_mark(self) -> None:
        super().sync_weights()
        if self.accelerator.is_main_process:
            self.vllm_client.mark_weights()
        if self.score is not None and not self._is_compared:
            self._compare()

    def _compare(self) -> None:
        """
        Compares what the server computes with what the trainer does; both have the same weights.

        Raises:
            ServerMismatchError: on every process, if they differ by more than [`TOLERANCES`].
        """
        ids, served, error = None, None, None
        if self.accelerator.is_main_process:
            text = text_ids(self.processing_class, self._requirements.vocab_size)
            ids, served = self.vllm_client.score(text) or (None, None)
        ids = self._broadcast(ids)
        if ids is None:
            return
        trained = self.score(ids)  # by all processes: weights may be spread over them
        if self.accelerator.is_main_process:
            allowed = tolerance(self.model, self.accelerator.mixed_precision)
            error = find_difference(served, trained.tolist(), allowed)
        error = self._broadcast(error)
        if error is not None:
            raise ServerMismatchError(f"The vLLM server at {self._url} {error}. {CAUSES}")
        self._is_compared = True

    def _repeated(self, operation: Callable[[], Result]) -> Result:
        """
        The result of an operation on the server, after as many attempts as it takes.

        Raises:
            ServerError: on every process, if no attempt succeeds or the server cannot serve this run any more.
        """
        result = operation()
        fault = self._take_fault()
        for attempt in range(self.settings.num_retries):
            if fault is None:
                break
            delay = FIRST_DELAY * 2**attempt
            logger.warning(
                f"{fault} Attempt {attempt + 1} of {self.settings.num_retries} follows in {delay:g} seconds."
            )
            time.sleep(delay)
            self._recover()
            fault = self._take_fault()
            if fault is None:
                result = operation()
                fault = self._take_fault()
        if fault is not None:
            raise ServerError(f"{fault} This was the last of {self.settings.num_retries + 1} attempts. {RESUME}")
        return result

    def _recover(self) -> None:
        """
        Waits for the server, checks that it fits, and sends it the weights. What fails meanwhile is a further fault.

        Raises:
            ServerError: on every process, if no server or another one comes back.
        """
        error = None
        if self.accelerator.is_main_process:
            error = self.vllm_client.attempt("Checking the server", self._find_mismatch)
            if error is None:
                self.vllm_client.reconnect(self.accelerator.device)
        error = self._broadcast(error)
        if error is not None:
            raise ServerError(f"{error} {RESUME}") from error
        self._is_compared = False  # it may be another server
        try:
            self._sync_and_mark()
        except ServerMismatchError as error:
            raise ServerError(f"{error} {RESUME}") from error

    def _take_fault(self) -> str | None:
        """What went wrong since the last call, on all processes."""
        fault = self.vllm_client.take_fault() if self.accelerator.is_main_process else None
        return self._broadcast(fault)

    def _find_mismatch(self) -> Exception | None:
        """Why the server is of no use to this run, if so, after it has been waited for."""
        url = self._url
        if self._requirements is None:
            self._requirements = self._collect_requirements()
        try:
            wait_for_server(url, self.server_timeout)
            check_server(url, self._requirements)
            self._claim = self._claim or Claim(url)
            self._claim.take()
        except (UnreachableError, ServerMismatchError) as error:
            return error
        except requests.RequestException as error:
            if self._is_connected:
                raise
            return UnreachableError(f"The vLLM server at {url} cannot be asked what it serves: {error}")
        return None

    @property
    def _url(self) -> str:
        return self.server_base_url or f"http://{self.server_host}:{self.server_port}"

    def _collect_requirements(self) -> Requirements:
        precision = {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision)
        config = self.model.config
        return Requirements(
            model=getattr(config, "_name_or_path", ""),
            vocab_size=config.get_text_config().vocab_size,
            dtype=precision or str(self.model.dtype).removeprefix("torch."),
            num_prompt_tokens=self.settings.count_prompt_tokens(self.processing_class),
            num_completion_tokens=self.max_completion_length,
            needs_processed_logprobs=self.settings.needs_processed_logprobs,
            gpus=trainer_gpus(self.accelerator.device.type, self.accelerator.num_processes),
        )

    def _broadcast(self, value: Any) -> Any:
        """The main process's value, on all processes."""
        values = [value]
        broadcast_object_list(values, from_process=0)
        return values[0]
