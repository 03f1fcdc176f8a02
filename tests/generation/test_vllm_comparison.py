"""A server that computes something else than the trainer is found before it generates (real ones: tests/real_vllm)."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from trl.generation.vllm_client import VLLMClient

from dapo_trl import DAPOTrainer
from dapo_trl.generation.vllm import comparison
from dapo_trl.generation.vllm.client import GuardedClient
from dapo_trl.generation.vllm.comparison import (
    TEXT,
    USUAL_DIFFERENCES,
    find_difference,
    score_text,
    text_ids,
    tolerance,
)
from dapo_trl.generation.vllm.generation import Generation, ServerError
from dapo_trl.generation.vllm.preflight import ServerMismatchError
from tests.helpers import FIRST_CHARACTER, VOCABULARY, build, char_tokenizer, tiny_model
from tests.recording_vllm import FakeClient, HeldClaim


# What is compared


def test_the_text_as_the_tokenizer_writes_it():
    ids = text_ids(char_tokenizer(), len(VOCABULARY))
    assert ids == [VOCABULARY[character] for character in TEXT[: comparison.MAX_TOKENS]]
    assert text_ids(SimpleNamespace(tokenizer=char_tokenizer()), len(VOCABULARY)) == ids  # a processor
    few = text_ids(char_tokenizer(), FIRST_CHARACTER + 26)  # a model that knows lower case letters only
    assert few and all(token < FIRST_CHARACTER + 26 for token in few)


def test_the_worst_engine_counts():
    trained = [-1.0, -2.0, -3.0]
    right, wrong = [-1.001, -2.0, -3.002], [-1.0, -2.3, -3.0]
    assert find_difference([right, right], trained, 0.002) is None  # by 0.001
    found = find_difference([right, wrong], trained, 0.002)
    assert "on a text of 4 tokens their log-probabilities differ by 0.1 nats per token (by up to 0.3)" in found
    assert "where rounding explains 0.002" in found


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_no_number_is_no_agreement(value):
    right = [-1.0, -2.0]
    assert find_difference([right, [-1.0, value], right], right, 0.2) is not None


def test_the_coarsest_type_decides():
    model = tiny_model()
    assert [tolerance(model, precision) for precision in ("no", "fp16", "bf16")] == [0.002, 0.03, 0.15]
    assert tolerance(model, "bf16", USUAL_DIFFERENCES) == 0.1
    assert tolerance(tiny_model(dtype=torch.float16), "no") == 0.03
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.bfloat16()
    assert tolerance(adapted, "no") == 0.15


def test_eight_bits_round_more():
    model = tiny_model()
    model.lm_head.weight.__class__ = type("Int8Params", (torch.nn.Parameter,), {})
    assert tolerance(model, "bf16") == tolerance(model, "no", USUAL_DIFFERENCES) == 0.5


# The trainer's side


@pytest.fixture(scope="module")
def trainer():
    return build(DAPOTrainer, {"temperature": 0.5, "disable_dropout": False})


def test_the_trainers_log_probabilities(trainer):
    """At temperature 1 whatever the rollouts are sampled with, without dropout, and without a trace."""
    for layer in trainer.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    trainer.model.train()
    state = torch.random.get_rng_state()
    found = score_text(trainer.model, trainer.accelerator, [7, 8, 9, 10])
    assert trainer.model.training and torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        logits = tiny_model().eval()(torch.tensor([[7, 8, 9, 10]])).logits[0]
    expected = [logits[i].log_softmax(-1)[token].item() for i, token in enumerate([8, 9, 10])]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


# Both sides


class ScoringClient(FakeClient, VLLMClient):
    """TRL's client with a server that tells the log-probabilities of texts as vLLM does."""

    def __init__(self, logps: dict[int, float], num_engines: int = 1, status: int = 200):
        self.logps, self.num_engines, self.status = logps, num_engines, status
        self.requests = []

    def get_server_info(self):
        return {"model_config": {"max_model_len": 12}, "parallel_config": {"data_parallel_size": self.num_engines}}

    def _post(self, url, json):
        self.requests.append(json)
        if self.status != 200:
            raise Exception(f"Request failed: {self.status}, no such thing")
        answers = [
            {
                "prompt_logprobs": [
                    None,
                    *({str(token): {"logprob": self.logps[token], "rank": 1}} for token in ids[1:]),
                ]
            }
            for ids in json["prompt"]
        ]
        return {"choices": answers}


LOGPS = {token: -token / 10 for token in VOCABULARY.values()}


def generation_with(client: ScoringClient, trained: dict[int, float] = LOGPS) -> Generation:
    made = object.__new__(Generation)
    made.accelerator, made.model, made.processing_class = Accelerator(cpu=True), tiny_model(), char_tokenizer()
    made._url, made.vllm_client = "http://server", GuardedClient(client, 1.0, HeldClaim())
    made._is_compared = False
    made.score = lambda ids: torch.tensor([trained[token] for token in ids[1:]])
    return made


def test_a_server_that_computes_the_same():
    client = ScoringClient(LOGPS, num_engines=3)
    made = generation_with(client)
    made._compare(made.score)
    assert made._is_compared and made.vllm_client.take_fault() is None
    (request,) = client.requests
    assert [len(ids) for ids in request["prompt"]] == [11] * 3  # for every engine, as much as the server takes
    assert (request["max_tokens"], request["prompt_logprobs"]) == (1, 1)


def test_a_server_that_computes_something_else():
    made = generation_with(ScoringClient(LOGPS), trained={token: logp + 0.01 for token, logp in LOGPS.items()})
    message = (
        r"at http://server computes something else .* differ by 0.01 nats .* explains 0.002\. Most likely .*layers"
    )
    with pytest.raises(ServerMismatchError, match=message):
        made._compare(made.score)
    assert not made._is_compared


def test_a_server_that_scores_no_texts_is_only_warned_of(caplog):
    made = generation_with(ScoringClient(LOGPS, status=400))
    made._compare(made.score)
    assert not made._is_compared and made.vllm_client.take_fault() is None
    assert "does not tell log-probabilities of a given text" in caplog.text and "no such thing" in caplog.text


def test_a_server_that_fails_meanwhile_is_a_fault_like_any_other():
    made = generation_with(ScoringClient(LOGPS, status=500))
    made._compare(made.score)
    assert "Request failed: 500, no such thing" in made.vllm_client.take_fault() and not made._is_compared


def test_after_the_first_weights_and_after_every_fault(monkeypatch):
    """Not at every sync: what could differ is only looked for where the server may be another one."""
    client = ScoringClient(LOGPS)
    made = generation_with(client)
    monkeypatch.setattr("trl.generation.vllm_generation.VLLMGeneration.sync_weights", lambda self: None)
    made._find_mismatch = lambda: None
    made.vllm_client.reconnect = lambda device: None
    made._sync_and_mark()
    made._sync_and_mark()
    assert len(client.requests) == 1
    made._recover()
    assert len(client.requests) == 2
    client.logps = {token: logp + 0.01 for token, logp in LOGPS.items()}
    with pytest.raises(ServerError, match="computes something else .* resume"):
        made._recover()
