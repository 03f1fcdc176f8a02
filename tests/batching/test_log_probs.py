"""Scores of completions computed in chunks, each trimmed to its own longest row."""

import pytest
import torch

from dapo_trl.batching.log_probs import score_in_chunks


# Prompts padded left to 3, completions padded right to 4; the last row's completion is masked out altogether.
INPUT_IDS = torch.tensor([[0, 0, 5, 6, 7, 0, 0], [1, 2, 3, 4, 0, 0, 0], [0, 8, 9, 1, 2, 3, 4], [0, 0, 7, 5, 5, 0, 0]])
ATTENTION_MASK = torch.tensor(
    [[0, 0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0, 0]]
)


class RecordingScore:
    """Ten times the token plus the number of tokens of its row; remembers the shapes it was asked for."""

    def __init__(self):
        self.shapes = []

    def __call__(self, ids, mask, num_columns):
        self.shapes.append((*ids.shape, num_columns))
        num_tokens = mask.sum(dim=1, keepdim=True)
        return (10 * ids[:, -num_columns:] + num_tokens).float() * mask[:, -num_columns:]


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 4])
def test_scores_do_not_depend_on_the_chunks(num_chunks):
    score = RecordingScore()
    scores = score_in_chunks(score, INPUT_IDS, ATTENTION_MASK, 4, num_chunks)
    assert scores.tolist() == [[63, 73, 0, 0], [44, 0, 0, 0], [16, 26, 36, 46], [0, 0, 0, 0]]
    assert len(score.shapes) == num_chunks


def test_each_chunk_is_as_wide_as_its_longest_row():
    score = RecordingScore()
    score_in_chunks(score, INPUT_IDS, ATTENTION_MASK, 4, num_chunks=4)
    # rows, prompt + completion columns, completion columns; the longest row first, one token of the masked row
    assert score.shapes == [(1, 6, 4), (1, 4, 1), (1, 3, 2), (1, 2, 1)]


def test_a_long_prompt_finds_room_where_its_completion_ends_early():
    score = RecordingScore()
    score_in_chunks(score, INPUT_IDS, ATTENTION_MASK, 4, num_chunks=1)
    # The longest row has 2 + 4 tokens; the prompt of 3 and its completion of 1 fit into them.
    assert score.shapes == [(4, 6, 4)]
