"""TRL's generation with vLLM, with a server that is checked, may fail, and comes back; and adapters without drift."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from trl.generation.vllm_generation import VLLMGeneration

from ...config import DAPOConfig
from ...run.early_end import EndOfRun
from .adapters import check_adapters, merged_params, restored_base_weights
from .claim import Claim
from .client import GuardedClient, group_seed
from .command import longest_prompt
from .comparison import find_difference, text_ids, tolerance
from .preflight import (
    BAD_ANSWERS,
    Requirements,
    ServerMismatchError,
    UnreachableError,
    check_server,
    trainer_gpus,
    wait_for_server,
)


logger = get_logger(__name__)

Result = TypeVar("Result")

FIRST_DELAY = 2.0  # seconds before the first of the further attempts; doubled before every other

RESUME = "A checkpoint from before this rollout is saved (unless save_strategy is 'no'): resume from it."

CAUSES = (
    "Most likely it serves another model under this name (more layers, another rope scaling, --hf-overrides, "
    "--quantization) or another version of it (--revision), and what the trainer does not send stays as it is. Start "
    "it with the very files that the trainer loads, and the options that `dapo-trl vllm-command` prints."
)


class ServerError(EndOfRun):
    """The server failed and did not come back as the one it was. The run ends with a checkpoint."""

    is_failure = True


class Generation(VLLMGeneration):
    """
    TRL's generation with vLLM for runs of days.

    In server mode, the server is checked before TRL connects to it. A request that fails is repeated a bounded number
    of times with growing pauses; before, the server is waited for, checked again, and gets the weights again. A
    restart is noticed even if no request fails: the weights that are sent carry a mark, and an answer counts only if
    the server still bears it. The same mark keeps other runs away (see [`Claim`]). Every process takes part in
    everything and learns of every fault, because sending weights gathers them.

    `score` gives the trainer's log-probabilities of token ids from the second on, at temperature 1, which the server's
    are compared with after the first weights, and after every fault.
    """

    score: Callable[[list[int]], torch.Tensor] | None = None
    vllm_client: GuardedClient  # type: ignore[assignment]  # which stands in for the parent's

    def __init__(self, *, args: DAPOConfig, datasets: Iterable[Any], global_step: Callable[[], int], **kwargs):
        self._args = args
        self._datasets = datasets
        self._global_step = global_step
        self._url = args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"
        self._claim = Claim(self._url)
        self._requirements: Requirements | None = None
        self._is_connected = False
        self._is_compared = False
        self._draw: tuple[str, int, int] = ("", 0, 0)
        super().__init__(**kwargs)

    def _init_vllm(self):
        check_adapters(self.model, self.mode)
        if self.mode != "server":
            super()._init_vllm()
            return
        error = self._from_main_process(self._find_mismatch)
        if error is not None:
            raise error
        super()._init_vllm()
        if self.accelerator.is_main_process:
            self.vllm_client = GuardedClient(self.vllm_client, self._args.vllm_request_timeout, self._claim)
            self._is_connected = True

    def _iter_named_params(self):
        if self._dist.is_fsdp:
            with restored_base_weights(self.model):
                for name, value in super()._iter_named_params():
                    # What is handed out must not change when the adapters are unmerged, or be freed (FSDP1).
                    yield name, value.clone()
        elif isinstance(self.model, PeftModel):
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
        with self._seeded() if self.accelerator.is_main_process else contextlib.nullcontext():
            return self._repeated(partial(super().generate, *args, **kwargs))

    def release(self) -> None:
        self._claim.release()

    @contextlib.contextmanager
    def _seeded(self) -> Iterator[None]:
        """Inside, groups have the seeds of this draw: the same if it is repeated, also by a run that is resumed."""
        moment = "training" if self.model.training else "evaluation", self._global_step()
        self._draw = (*moment, self._draw[-1] + 1 if self._draw[:2] == moment else 0)
        self.vllm_client.group_seed = partial(group_seed, self._args.seed, *self._draw)
        try:
            yield
        finally:
            self.vllm_client.group_seed = None

    def _sync_and_mark(self) -> None:
        super().sync_weights()
        if self.accelerator.is_main_process:
            self.vllm_client.mark_weights()
        if self.score is not None and not self._is_compared:
            self._compare(self.score)

    def _compare(self, score: Callable[[list[int]], torch.Tensor]) -> None:
        """Fails on every process if the server does not compute what the trainer does; both have the same weights."""
        text = text_ids(self.processing_class, self.model.config.get_text_config().vocab_size)
        found = self._from_main_process(lambda: self.vllm_client.score(text))
        if found is None:
            return
        ids, served = found
        trained = score(ids)  # by all processes: weights may be spread over them
        allowed = tolerance(self.model, self.accelerator.mixed_precision)
        error = self._from_main_process(lambda: find_difference(served, trained.tolist(), allowed))
        if error is not None:
            raise ServerMismatchError(f"The vLLM server at {self._url} {error}. {CAUSES}")
        self._is_compared = True

    def _repeated(self, operation: Callable[[], Result]) -> Result:
        """The result of an operation on the server, after retries; [`ServerError`] on every process if all fail."""
        num_retries = self._args.vllm_max_retries
        result = operation()
        for attempt in range(num_retries):
            fault = self._take_fault()
            if fault is None:
                return result
            delay = FIRST_DELAY * 2**attempt
            logger.warning(f"{fault} Attempt {attempt + 1} of {num_retries} follows in {delay:g} seconds.")
            time.sleep(delay)
            self._recover()
            result = operation()  # which asks nothing of the server if it has not recovered
        fault = self._take_fault()
        if fault is not None:
            raise ServerError(f"{fault} This was the last of {num_retries + 1} attempts. {RESUME}")
        return result

    def _recover(self) -> None:
        """Waits for the server, checks it, sends the weights; [`ServerError`] everywhere if it is another one."""

        def check_and_connect() -> Exception | None:
            error = self.vllm_client.attempt("Checking the server", self._find_mismatch)
            if error is None:
                self.vllm_client.reconnect(self.accelerator.device)
            return error

        error = self._from_main_process(check_and_connect)
        if error is not None:
            raise ServerError(f"{error} {RESUME}") from error
        self._is_compared = False  # it may be another server
        try:
            self._sync_and_mark()
        except ServerMismatchError as error:
            raise ServerError(f"{error} {RESUME}") from error

    def _find_mismatch(self) -> Exception | None:
        """Why the server is of no use to this run, if so, after it has been waited for."""
        if self._requirements is None:
            self._requirements = self._collect_requirements()
        try:
            wait_for_server(self._url, self.server_timeout)
            check_server(self._url, self._requirements)
            self._claim.take()
        except (UnreachableError, ServerMismatchError) as error:
            return error
        except BAD_ANSWERS as error:
            if self._is_connected:
                raise
            return UnreachableError(f"The vLLM server at {self._url} cannot be asked what it serves: {error}")
        return None

    def _collect_requirements(self) -> Requirements:
        precision = {"bf16": "bfloat16", "fp16": "float16"}.get(self.accelerator.mixed_precision)
        template_kwargs, config = self._args.chat_template_kwargs, self.model.config
        assert not isinstance(template_kwargs, str)  # such a text has been read
        return Requirements(
            model=getattr(config, "_name_or_path", ""),
            dtype=precision or str(self.model.dtype).removeprefix("torch."),
            num_prompt_tokens=longest_prompt(self._datasets, self.processing_class, template_kwargs),
            num_completion_tokens=self.max_completion_length or 0,
            needs_processed_logprobs=self._args.vllm_importance_sampling_correction,
            gpus=trainer_gpus(self.accelerator.device.type, self.accelerator.num_processes),
        )

    def _take_fault(self) -> str | None:
        return self._from_main_process(lambda: self.vllm_client.take_fault())

    def _from_main_process(self, function: Callable[[], Result]) -> Result:
        """What the function returns on the main process, on all processes."""
        values: list[Any] = [function() if self.accelerator.is_main_process else None]
        broadcast_object_list(values, from_process=0)
        return values[0]
