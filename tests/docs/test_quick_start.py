"""The Python code of the README works as pasted."""

import json
import subprocess
import sys

from tests.docs.pages import ROOT, code_blocks
from tests.hub.server import hub_environment, running_hub


def test_it_is_short():
    (code,) = code_blocks(ROOT / "README.md", "python")
    assert len(code.splitlines()) <= 15


def test_it_trains(tmp_path):
    with running_hub() as (_, url):
        environment = hub_environment(url, tmp_path / "cache") | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        finished = subprocess.run(
            [sys.executable, "-m", "tests.docs.quick_start_worker", str(tmp_path)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert finished.returncode == 0, finished.stderr[-5000:]
    state = json.loads((tmp_path / "outputs" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
