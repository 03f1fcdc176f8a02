"""The batch script on a fake scheduler: what it starts, in which order, and how it ends."""

import os
import re
import subprocess
import sys

import pytest

from dapo_trl.commands import vllm_command

from ..command import save_model, write_problems, write_recipe
from .conftest import ROOT


SCRIPT = ROOT / "recipes/slurm/train.sbatch"


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def of_nodes(events: list[dict]) -> list[dict]:
    return sorted(events, key=lambda event: event["node"])


def test_success(finished):
    assert len(finished.events("server")) == len(finished.events("trainer")) == 2
    assert [trainer["health"] for trainer in finished.events("trainer")] == [200, 200]  # the server was up before
    assert not finished.serves()
    assert not finished.events("requeue")


def test_commands_of_the_server(finished):
    first, second = (event["arguments"] for event in of_nodes(finished.events("server")))
    printed = ["serve", "a model", "--data-parallel-size", "4", "--weight-transfer-config", '{"backend": "nccl"}']
    common = ["--host", "127.0.0.1", "--port", str(finished.port), "--data-parallel-size-local", "2"]
    common += ["--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", "13345"]
    assert first == printed + common
    assert second == [*printed, *common, "--headless", "--data-parallel-start-rank", "2"]


def test_commands_of_the_trainer(finished):
    for node, trainer in enumerate(of_nodes(finished.events("trainer"))):
        assert trainer["arguments"] == [
            *("launch", "--config_file", "recipes/accelerate_configs/zero3.yaml"),
            *("--num_machines", "2", "--num_processes", "16", "--machine_rank", str(node)),
            *("--main_process_ip", "127.0.0.3", "--main_process_port", "29500", "-m", "dapo_trl.train"),
            *("--config", str(finished.recipe), "--resume_from_checkpoint", "true"),
            *("--vllm_server_base_url", f"http://127.0.0.1:{finished.port}", "--learning_rate", "1e-5"),
        ]


def test_a_server_on_one_node_needs_no_further_options(cluster):
    assert cluster.submit(str(cluster.recipe), num_nodes=2, SERVER_NODES="1").returncode == 0
    (server,) = cluster.events("server")
    assert server["arguments"][-2:] == ["--port", str(cluster.port)]


def test_without_a_server(cluster):
    assert cluster.submit(str(cluster.recipe), SERVER_NODES="0").returncode == 0
    assert not cluster.events("server")
    assert len(cluster.events("trainer")) == 3
    assert "--vllm_server_base_url" not in cluster.events("trainer")[0]["arguments"]


def test_preempted_then_requeued_then_done(cluster):
    job = cluster.submit(
        str(cluster.recipe),
        FAKE_SERVER="healthy,healthy",
        FAKE_TRAINER="is_preempted,succeeds",
        FAKE_TERM_WHEN="trainer_started",
        num_nodes=4,
    )
    assert job.returncode == 0, job.stderr
    assert cluster.events("requeue") == [{"what": "requeue", "job": "7"}]
    assert "Told to end." in job.stdout
    assert "without a new checkpoint" not in job.stdout
    trainers = cluster.events("trainer")
    assert len(trainers) == 4  # two nodes, twice
    assert not any(trainer["has_marker"] for trainer in trainers)
    assert all(option(trainer["arguments"], "--resume_from_checkpoint") == "true" for trainer in trainers)
    assert not cluster.serves()


@pytest.mark.parametrize(
    ("recipe", "arguments"),
    [
        ("output_dir: elsewhere\n", ["--output_dir", "OUT"]),
        ("output_dir: elsewhere\n", ["--output-dir=OUT"]),
        ("output_dir: 'OUT'  # of this run\n", []),
    ],
)
def test_the_marker_is_looked_for_where_the_run_leaves_it(cluster, recipe, arguments):
    out = str(cluster.directory / "out")
    cluster.recipe.write_text(recipe.replace("OUT", out))
    job = cluster.submit(
        *(str(cluster.recipe), *(word.replace("OUT", out) for word in arguments)),
        FAKE_SERVER="healthy,healthy",
        FAKE_TRAINER="is_preempted,succeeds",
        FAKE_TERM_WHEN="trainer_started",
    )
    assert job.returncode == 0
    assert len(cluster.events("requeue")) == 1
    assert "without a new checkpoint" not in job.stdout


def test_told_to_end_while_the_server_starts(cluster):
    """Nothing is lost: the job is requeued without a trainer."""
    job = cluster.submit(
        str(cluster.recipe),
        FAKE_SERVER="never,healthy",
        FAKE_TERM_WHEN="server_started",
        FAKE_TRAINER="not started,succeeds",
    )
    assert job.returncode == 0, job.stderr
    assert len(cluster.events("requeue")) == 1
    assert len(cluster.events("server")) == 4  # two nodes, twice
    assert len(cluster.events("trainer")) == 1


def test_a_cancelled_job_is_not_requeued(cluster):
    job = cluster.submit(
        str(cluster.recipe),
        FAKE_TRAINER="is_preempted",
        FAKE_TERM_WHEN="trainer_started",
        FAKE_JOB_STATE="CANCELLED",
    )
    assert job.returncode == 0
    assert "cancelled: it is not requeued" in job.stdout
    assert not cluster.events("requeue")


def test_told_to_end_without_time_for_a_checkpoint(cluster):
    """There is an older one to go on from."""
    job = cluster.submit(
        str(cluster.recipe),
        FAKE_SERVER="healthy,healthy",
        FAKE_TRAINER="is_killed,succeeds",
        FAKE_TERM_WHEN="trainer_started",
    )
    assert job.returncode == 0
    assert "The trainer ended without a new checkpoint" in job.stdout
    assert len(cluster.events("requeue")) == 1


def test_a_server_that_never_gets_healthy(cluster):
    job = cluster.submit(str(cluster.recipe), FAKE_SERVER="never", SERVER_TIMEOUT="3")
    assert job.returncode == 1
    assert f"http://127.0.0.1:{cluster.port} did not answer in 3 s. Raise SERVER_TIMEOUT." in job.stderr
    assert not cluster.events("trainer")
    assert not cluster.serves()


def test_a_server_that_ends(cluster):
    job = cluster.submit(str(cluster.recipe), FAKE_SERVER="dies")
    assert job.returncode == 1
    assert "The server ended before it answered" in job.stderr
    assert not cluster.events("trainer")


def test_a_trainer_that_fails(cluster):
    (cluster.directory / "out" / "PREEMPTED").touch()  # of an earlier run
    job = cluster.submit(str(cluster.recipe), FAKE_TRAINER="fails")
    assert job.returncode == 3
    assert "The trainer ended with status 3." in job.stdout
    assert not cluster.events("requeue")
    assert not cluster.serves()


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "No recipe. Usage: sbatch --nodes=N"),
        (["missing.yaml"], {}, "There is no recipe missing.yaml here .* Submit from the repository's root"),
        (["RECIPE"], {"SERVER_NODES": "3"}, "SERVER_NODES=3 leaves none of 3 nodes to train. Raise --nodes"),
        (["RECIPE"], {"FAKE_NO_COMMAND": "1"}, "The server's command could not be made"),
    ],
)
def test_refused(cluster, arguments, environment, message):
    arguments = [str(cluster.recipe) if word == "RECIPE" else word for word in arguments]
    job = cluster.submit(*arguments, **environment)
    assert job.returncode == 1
    assert re.search(message, job.stderr)
    assert not cluster.events("server") and not cluster.events("trainer")


def test_copies_that_cannot_be_shared(cluster):
    job = cluster.submit(str(cluster.recipe), num_nodes=4, SERVER_NODES="3")
    assert job.returncode == 1
    assert "vllm_data_parallel_size=4 cannot be shared by SERVER_NODES=3. Change one of them." in job.stderr


def test_the_real_command_of_the_server(cluster, tmp_path, capsys):
    """What `dapo-trl vllm-command` prints comes through to `vllm`, with a space in a path and quotes."""
    fields = {
        "model_name_or_path": save_model(tmp_path / "my model"),
        "dataset_name": write_problems(tmp_path / "problems.jsonl"),
        "output_dir": str(tmp_path / "out"),
        "vllm_data_parallel_size": 2,
        "use_vllm": True,
        "vllm_mode": "server",
        "vllm_server_base_url": f"http://127.0.0.1:{cluster.port}",
    }
    vllm_command.main(["--config", write_recipe(cluster.recipe, fields)])
    (cluster.directory / "printed").write_text(capsys.readouterr().out)
    job = cluster.submit(str(cluster.recipe))
    assert job.returncode == 0, job.stderr
    server = of_nodes(cluster.events("server"))[0]["arguments"]
    assert server[:2] == ["serve", fields["model_name_or_path"]]
    assert option(server, "--weight-transfer-config") == '{"backend": "nccl"}'
    assert option(server, "--data-parallel-size-local") == "1"


# The scripts themselves


def test_the_end_is_announced_earlier_than_the_launcher_kills(finished):
    (seconds,) = re.findall(r"^#SBATCH --signal=B:TERM@(\d+)$", SCRIPT.read_text(), flags=re.MULTILINE)
    assert int(finished.events("trainer")[0]["shutdown_timeout"]) + 60 <= int(seconds)


def test_shellcheck():
    scripts = [SCRIPT, *sorted(SCRIPT.parent.glob("*.sh"))]
    assert len(scripts) == 3
    checked = subprocess.run(["shellcheck", *scripts], env=os.environ | {"PATH": PATH}, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


PATH = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
