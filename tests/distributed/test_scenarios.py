"""The scenarios are worth comparing: each trains, drops groups, and most need several rounds."""

import pytest

from tests.distributed.scenarios import SCENARIOS, SGD
from tests.helpers import largest_difference, tiny_model, weights


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_scenario_trains_on_some_of_the_groups(name, scenarios_alone):
    run = scenarios_alone[name]
    assert largest_difference(run["weights"], weights(tiny_model())) > 2e-3
    assert sum(map(len, run["accepted"])) < sum(map(len, run["drawn"]))
    num_rollouts = SGD["max_steps"] // SCENARIOS[name].get("updates_per_rollout", 1)
    assert len(run["accepted"]) == num_rollouts
    assert (len(run["drawn"]) > num_rollouts) == (not name.startswith("partial"))
