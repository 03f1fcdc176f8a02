"""On a CPU, the LM head takes small chunks of tokens."""

import pytest
import torch
from trl.kernels import chunked_logprob

from dapo_trl import DAPOTrainer
from dapo_trl.batching import log_probs
from dapo_trl.batching.log_probs import small_lm_head_chunks
from tests.helpers import train


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def chunk_sizes(monkeypatch):
    """Tokens of each chunk that TRL's LM head computes, forwards and backwards."""
    sizes = {"_forward_tile": [], "_backward_tile": []}

    def spy_on(name):
        fold = getattr(chunked_logprob, name)

        def spy(tile, *args, **kwargs):
            sizes[name].append(len(tile))
            return fold(tile, *args, **kwargs)

        monkeypatch.setattr(chunked_logprob, name, spy)

    for name in sizes:
        spy_on(name)
    return sizes


def test_training_takes_small_chunks_in_both_directions(monkeypatch, chunk_sizes):
    monkeypatch.setattr(log_probs, "CPU_CHUNK", 5)
    train(DAPOTrainer, {"max_steps": 1})
    for sizes in chunk_sizes.values():
        assert max(sizes) == 5 and len(sizes) > 1


def test_training_in_the_way_of_the_parent_takes_its_chunks(monkeypatch, chunk_sizes):
    monkeypatch.setattr(log_probs, "CPU_CHUNK", 5)
    train(DAPOTrainer, {"max_steps": 1, "dynamic_sampling": False, "balance_micro_batches": False})
    for sizes in chunk_sizes.values():
        assert min(sizes) > 5


def gradients(num_tokens: int) -> list[torch.Tensor]:
    """Log-probabilities, and their gradients by hidden states and weights, of the fused LM head."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(num_tokens, 8, generator=generator, requires_grad=True)
    weight = torch.randn(50, 8, generator=generator, requires_grad=True)
    targets = torch.arange(num_tokens) % 50
    logps, *_ = chunked_logprob.ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 32768)
    (logps * torch.linspace(-1, 1, num_tokens)).sum().backward()
    return [logps.detach(), hidden.grad, weight.grad]


def test_results_are_those_of_large_chunks(chunk_sizes):
    expected = gradients(600)
    with small_lm_head_chunks(CPU):
        found = gradients(600)
    assert chunk_sizes == {"_forward_tile": [600, 256, 256, 88], "_backward_tile": [600, 256, 256, 88]}
    for tensor, large in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, large, rtol=1e-5, atol=1e-5)


def test_chunks_on_a_gpu_stay_as_they_are(chunk_sizes):
    with small_lm_head_chunks(GPU):
        gradients(300)
    assert chunk_sizes == {"_forward_tile": [300], "_backward_tile": [300]}


def test_the_size_is_put_back_after_an_error(chunk_sizes):
    with pytest.raises(RuntimeError, match="in between"), small_lm_head_chunks(CPU):
        raise RuntimeError("in between")
    gradients(300)
    assert chunk_sizes == {"_forward_tile": [300], "_backward_tile": [300]}
