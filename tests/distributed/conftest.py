import pytest

from tests.distributed.scenarios import SCENARIOS, trained


@pytest.fixture(scope="session")
def scenarios_alone():
    """What one process trains."""
    return {name: trained(config) for name, config in SCENARIOS.items()}
