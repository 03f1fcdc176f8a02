"""How many tokens the correction of vLLM's log-probabilities changes."""

import math

import pytest
import torch

from dapo_trl.monitoring.metrics import count_corrected


OLD = torch.tensor([[-1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])
# Ratios 1, 3, 1/3, 3 (not trained); 1.5 four times, one of them unknown.
SAMPLING = torch.tensor(
    [
        [-1.0, -1.0 - math.log(3), -1.0 + math.log(3), -1.0 - math.log(3)],
        [-1.0 - math.log(1.5), -1.0 - math.log(1.5), -1.0 - math.log(1.5), math.nan],
    ]
)
TRAINED = torch.tensor([[True, True, True, False], [True, True, True, True]])


@pytest.mark.parametrize(
    ("mode", "lower", "upper", "corrected"),
    [
        ("token_truncate", None, 2.0, 1),
        ("token_truncate", 0.5, 2.0, 2),
        ("token_mask", 0.5, None, 1),
        ("token_truncate", None, 1.2, 4),
        ("token_truncate", None, None, 0),
        # of the sequences: 1 * 3 / 3 = 1, and 1.5 ** 3 = 3.4
        ("sequence_mask", None, 3.0, 4),
        ("sequence_truncate", None, 4.0, 0),
        ("sequence_truncate", 2.0, 4.0, 3),
    ],
)
def test_tokens_out_of_bounds(mode, lower, upper, corrected):
    scored = {"old_per_token_logps": OLD, "sampling_per_token_logps": SAMPLING}
    assert count_corrected(scored, TRAINED, mode, lower, upper).tolist() == [corrected, 7]
