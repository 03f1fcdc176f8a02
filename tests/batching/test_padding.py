"""Rows without padding and back: what TRL's loss sees stays the same."""

import pytest
import torch

from dapo_trl.batching.padding import loss_mask, neutral_logps, pad_rows, padding_row, unpad


PAD = 9
CPU = torch.device("cpu")


def scored_batch() -> dict[str, torch.Tensor]:
    """Three rows as TRL pads them: prompts of 2, 1, 3 tokens on the left, completions of 3, 1, 2 on the right."""
    return {
        "prompt_ids": torch.tensor([[PAD, 11, 12], [PAD, PAD, 21], [31, 32, 33]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [0, 0, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[13, 14, 15, PAD], [22, PAD, PAD, PAD], [34, 35, PAD, PAD]]),
        "completion_mask": torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]),
        "tool_mask": torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]),
        "old_per_token_logps": torch.tensor([[-1.0, -2, -3, 0], [-4, 0, 0, 0], [-5, -6, 0, 0]]),
        "importance_sampling_ratio": torch.tensor([[0.5], [1.5], [2.0]]),
        "advantages": torch.tensor([1.0, -1.0, 0.25]),
        "num_items_in_batch": torch.tensor(6),
    }


def assert_same(batch: dict[str, torch.Tensor], expected: dict[str, list]) -> None:
    assert {name: tensor.tolist() for name, tensor in batch.items()} == expected


def test_loss_mask_leaves_out_tokens_of_an_environment():
    batch = scored_batch()
    assert loss_mask(batch).tolist() == [[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    del batch["tool_mask"]
    assert loss_mask(batch).tolist() == batch["completion_mask"].tolist()


def test_unpad():
    first, second, third = unpad(scored_batch())
    # Lengths follow completion_mask: the environment's token in the middle stays, as context.
    assert_same(
        first,
        {
            "prompt_ids": [11, 12],
            "prompt_mask": [1, 1],
            "completion_ids": [13, 14, 15],
            "completion_mask": [1, 1, 1],
            "tool_mask": [1, 0, 1],
            "old_per_token_logps": [-1.0, -2.0, -3.0],
            "importance_sampling_ratio": [0.5],
            "advantages": [1.0],
        },
    )
    assert second["prompt_ids"].tolist() == [21]
    assert second["old_per_token_logps"].tolist() == [-4.0]
    assert third["completion_ids"].tolist() == [34, 35]
    assert third["advantages"].tolist() == [0.25]


def test_a_masked_row_keeps_one_token():
    batch = scored_batch()
    batch["completion_mask"][0] = 0  # as mask_truncated_completions does
    row = unpad(batch)[0]
    assert row["completion_ids"].tolist() == [13]
    assert row["completion_mask"].tolist() == [0]


def test_rows_are_copies():
    batch = scored_batch()
    rows = unpad(batch)
    batch["completion_ids"].zero_()
    assert rows[0]["completion_ids"].tolist() == [13, 14, 15]


def test_pad_rows_is_the_inverse_of_unpad():
    batch = scored_batch()
    padded = pad_rows(unpad(batch)[:2], PAD, CPU)
    # Two and three columns are enough for these rows. Masks and log-probabilities are 0 in the padding.
    assert_same(
        padded,
        {
            "prompt_ids": [[11, 12], [PAD, 21]],
            "prompt_mask": [[1, 1], [0, 1]],
            "completion_ids": [[13, 14, 15], [22, PAD, PAD]],
            "completion_mask": [[1, 1, 1], [1, 0, 0]],
            "tool_mask": [[1, 0, 1], [1, 0, 0]],
            "old_per_token_logps": [[-1.0, -2.0, -3.0], [-4.0, 0.0, 0.0]],
            "importance_sampling_ratio": [[0.5], [1.5]],
            "advantages": [1.0, -1.0],
        },
    )


def test_a_micro_batch_is_as_wide_as_its_longest_row():
    padded = pad_rows(unpad(scored_batch()), PAD, CPU)
    # Rows of 2 + 3, 1 + 1 and 3 + 2 tokens fit into five columns. The last token of the third prompt stands before
    # its completion and is not trained on.
    assert_same(
        padded,
        {
            "prompt_ids": [[11, 12], [PAD, 21], [31, 32]],
            "prompt_mask": [[1, 1], [0, 1], [1, 1]],
            "completion_ids": [[13, 14, 15], [22, PAD, PAD], [33, 34, 35]],
            "completion_mask": [[1, 1, 1], [1, 0, 0], [1, 1, 1]],
            "tool_mask": [[1, 0, 1], [1, 0, 0], [0, 0, 1]],
            "old_per_token_logps": [[-1.0, -2.0, -3.0], [-4.0, 0.0, 0.0], [0.0, -5.0, -6.0]],
            "importance_sampling_ratio": [[0.5], [1.5], [2.0]],
            "advantages": [1.0, -1.0, 0.25],
        },
    )


def test_a_moved_prompt_token_is_not_trained_on():
    batch = scored_batch()
    del batch["tool_mask"]
    padded = pad_rows(unpad(batch), PAD, CPU)
    # No environment: all tokens of the completions, and only these.
    assert loss_mask(padded).tolist() == [[1, 1, 1], [1, 0, 0], [0, 1, 1]]


def test_one_value_per_token_moves_with_its_token():
    batch = scored_batch()
    batch["importance_sampling_ratio"] = torch.tensor([[0.5, 0.6, 0.7, 0], [1.5, 0, 0, 0], [2.0, 2.5, 0, 0]])
    ratio = pad_rows(unpad(batch), PAD, CPU)["importance_sampling_ratio"]
    torch.testing.assert_close(ratio, torch.tensor([[0.5, 0.6, 0.7], [1.5, 0, 0], [0, 2.0, 2.5]]))


def test_a_micro_batch_is_trimmed_to_its_own_longest_row():
    rows = unpad(scored_batch())
    padded = pad_rows([rows[2], rows[1]], PAD, CPU)
    assert padded["prompt_ids"].tolist() == [[31, 32, 33], [PAD, PAD, 21]]
    assert padded["completion_ids"].tolist() == [[34, 35], [22, PAD]]
    assert padded["importance_sampling_ratio"].tolist() == [[2.0], [1.5]]
    assert padded["advantages"].tolist() == [0.25, -1.0]


def test_completions_of_one_token_are_padded_to_two_columns():
    padded = pad_rows([unpad(scored_batch())[1]], PAD, CPU)
    assert padded["prompt_ids"].tolist() == [[21]]
    assert padded["completion_ids"].tolist() == [[22, PAD]]
    assert padded["completion_mask"].tolist() == [[1, 0]]
    assert padded["old_per_token_logps"].tolist() == [[-4.0, 0.0]]
    # A ratio per sequence cannot be told from one per token here; on the one token that counts they are the same.
    assert padded["importance_sampling_ratio"][0, 0].item() == 1.5


@pytest.mark.parametrize(("multiple", "widths"), [(None, (2, 3)), (2, (2, 4)), (3, (3, 3)), (8, (8, 8))])
def test_both_lengths_are_padded_to_a_multiple(multiple, widths):
    padded = pad_rows(unpad(scored_batch())[:2], PAD, CPU, pad_to_multiple_of=multiple)
    assert (padded["prompt_ids"].size(1), padded["completion_mask"].size(1)) == widths
    assert padded["prompt_ids"][1].tolist() == [PAD] * (widths[0] - 1) + [21]
    assert padded["completion_ids"][1].tolist() == [22] + [PAD] * (widths[1] - 1)


def test_padding_row_weighs_nothing():
    rows = unpad(scored_batch())
    padding = padding_row(rows[0], PAD)
    assert_same(
        padding,
        {
            "prompt_ids": [PAD],
            "prompt_mask": [1],
            "completion_ids": [PAD],
            "completion_mask": [0],
            "tool_mask": [0],
            "old_per_token_logps": [0.0],
            "importance_sampling_ratio": [0.0],
            "advantages": [0.0],
        },
    )
    assert {name: value.dtype for name, value in padding.items()} == {name: v.dtype for name, v in rows[0].items()}
    padded = pad_rows([rows[0], padding], PAD, CPU)
    assert loss_mask(padded).tolist() == [[1, 0, 1], [0, 0, 0]]


def test_neutral_logps_known_answer():
    batch = {
        "completion_mask": torch.tensor([[1, 1, 0]]),
        "tool_mask": torch.tensor([[1, 0, 1]]),
        "old_per_token_logps": torch.tensor([[-1.0, -2.0, -3.0]]),
        "sampling_per_token_logps": torch.tensor([[float("nan"), float("nan"), -6.0]]),
        "importance_sampling_ratio": torch.tensor([[0.5]]),
    }
    neutral = neutral_logps(batch)
    assert neutral["old_per_token_logps"].tolist() == [[-1.0, 0.0, 0.0]]
    # What vLLM did not tell of a trained token stays unknown: TRL deals with it.
    assert neutral["sampling_per_token_logps"].isnan().tolist() == [[True, False, False]]
    assert neutral["importance_sampling_ratio"].tolist() == [[0.5]]
    assert batch["old_per_token_logps"].tolist() == [[-1.0, -2.0, -3.0]]
