"""The batch script on a fake scheduler: what it starts, in which order, and how it ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dapo_trl.commands import vllm_command

from ..command import save_model, write_problems, write_recipe
from .fakes import read_log


ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes/slurm/train.sbatch"

SCONTROL = """#!/bin/sh
case "$*" in
    "show hostnames "*) echo "$3" | tr , "\\n" ;;
    "show job 7") echo "JobId=7"; echo "   JobState=${FAKE_JOB_STATE:-RUNNING} Reason=None" ;;
    "requeue 7") echo requeued >> "$FAKE_DIRECTORY/requeued" ;;
    *) exit 1 ;;
esac
"""

PYTHON = """#!/bin/sh
case "$*" in *vllm-command*) cat "$FAKE_DIRECTORY/printed" ;; *) exit 1 ;; esac
"""
"""`python -m dapo_trl vllm-command` without the seconds that the imports take."""

PRINTED = """Some library says hello.
VLLM_SERVER_DEV_MODE=1 vllm serve 'a model' \\
    --data-parallel-size 4 \\
    --weight-transfer-config '{"backend": "nccl"}' \\
    --host 127.0.0.1 \\
    --port PORT
"""


@dataclass
class Job:
    """What came of a job."""

    returncode: int
    stdout: str
    stderr: str
    num_requeued: int


class Cluster:
    """The commands of one test, in a directory with a recipe and the run's output directory."""

    def __init__(self, directory: Path):
        self.directory, self.out, self.recipe = directory, directory / "out", directory / "recipe.yaml"
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            self.port = server.getsockname()[1]
        self.out.mkdir()
        self.recipe.write_text(f"output_dir: {self.out}\n")
        (directory / "printed").write_text(PRINTED.replace("PORT", str(self.port)))
        (directory / "bin").mkdir()
        commands = {
            name: f'#!/bin/sh\nexec {sys.executable} -S -m tests.slurm.fakes {name} "$@"\n'
            for name in ("srun", "vllm", "accelerate")
        }
        for name, content in (commands | {"scontrol": SCONTROL, "python": PYTHON}).items():
            path = directory / "bin" / name
            path.write_text(content)
            path.chmod(0o755)

    def run(self, *arguments: object, num_nodes: int = 3, term_when: str | None = None, **environment: str) -> Job:
        """
        Runs the job as Slurm would, from a copy of the script, and again if it was requeued.

        When the file `term_when` appears in the directory, the script alone gets SIGTERM, as with
        `--signal=B:TERM@...`.
        """
        environment = os.environ | {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FAKE_DIRECTORY": str(self.directory),
            "FAKE_SERVER": "healthy,healthy",
            "FAKE_TRAINER": "succeeds",
            "SERVER_NODES": "2",
            "SERVER_PORT": str(self.port),
            "SERVER_TIMEOUT": "120",
            "POLL_SECONDS": "0.2",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": ",".join(f"127.0.0.{i + 1}" for i in range(num_nodes)),
            **environment,
        }
        script = shutil.copy(SCRIPT, self.directory / "slurm_script")
        stdout, stderr, requeued = "", "", self.directory / "requeued"
        for restart in range(3):
            num_requeued = len(requeued.read_text().splitlines()) if requeued.exists() else 0
            if restart > num_requeued:
                break
            process = subprocess.Popen(
                ["bash", script, *map(str, arguments)],
                cwd=ROOT,
                env=environment | {"SLURM_RESTART_COUNT": str(restart)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            while restart == 0 and term_when and process.poll() is None:
                if (self.directory / term_when).exists():
                    process.send_signal(signal.SIGTERM)
                    break
                time.sleep(0.05)
            output, errors = process.communicate(timeout=300)
            stdout, stderr = stdout + output, stderr + errors
        return Job(process.returncode, stdout, stderr, num_requeued)

    def events(self, what: str) -> list[dict]:
        """What servers or trainers were started with, by node."""
        return sorted(read_log(self.directory, what), key=lambda event: event["node"])

    def serves(self) -> bool:
        """Whether the server still runs."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Cluster:
    """One whose job has run on two nodes for the server and two for the trainer."""
    cluster = Cluster(tmp_path_factory.mktemp("finished"))
    job = cluster.run(cluster.recipe, "--learning_rate", "1e-5", num_nodes=4)
    assert (job.returncode, job.num_requeued) == (0, 0), job.stderr
    return cluster


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_success(finished):
    assert len(finished.events("server")) == len(finished.events("trainer")) == 2
    assert [trainer["health"] for trainer in finished.events("trainer")] == [200, 200]  # the server was up before
    assert not finished.serves()


def test_commands_of_the_server(finished):
    first, second = (event["arguments"] for event in finished.events("server"))
    printed = ["serve", "a model", "--data-parallel-size", "4", "--weight-transfer-config", '{"backend": "nccl"}']
    common = ["--host", "127.0.0.1", "--port", str(finished.port), "--data-parallel-size-local", "2"]
    common += ["--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", "13345"]
    assert first == printed + common
    assert second == [*printed, *common, "--headless", "--data-parallel-start-rank", "2"]


def test_commands_of_the_trainer(finished):
    for node, trainer in enumerate(finished.events("trainer")):
        assert trainer["arguments"] == [
            *("launch", "--config_file", "recipes/accelerate_configs/zero3.yaml"),
            *("--num_machines", "2", "--num_processes", "16", "--machine_rank", str(node)),
            *("--main_process_ip", "127.0.0.3", "--main_process_port", "29500", "-m", "dapo_trl.train"),
            *("--config", str(finished.recipe), "--resume_from_checkpoint", "true"),
            *("--vllm_server_base_url", f"http://127.0.0.1:{finished.port}", "--learning_rate", "1e-5"),
        ]


def test_a_server_on_one_node_needs_no_further_options(cluster):
    assert cluster.run(cluster.recipe, num_nodes=2, SERVER_NODES="1").returncode == 0
    (server,) = cluster.events("server")
    assert server["arguments"][-2:] == ["--port", str(cluster.port)]


def test_without_a_server(cluster):
    assert cluster.run(cluster.recipe, SERVER_NODES="0").returncode == 0
    assert not cluster.events("server")
    assert len(cluster.events("trainer")) == 3
    assert "--vllm_server_base_url" not in cluster.events("trainer")[0]["arguments"]


@pytest.mark.parametrize(
    ("recipe", "arguments"),
    [
        ("output_dir: OUT\n", []),
        ("output_dir: elsewhere\n", ["--output_dir", "OUT"]),
        ("output_dir: elsewhere\n", ["--output-dir=OUT"]),
        ("output_dir: 'OUT'  # of this run\n", []),
    ],
)
def test_preempted_then_requeued_then_done(cluster, recipe, arguments):
    """The script finds the marker where the run leaves it, and removes it before the next."""
    cluster.recipe.write_text(recipe.replace("OUT", str(cluster.out)))
    arguments = [word.replace("OUT", str(cluster.out)) for word in arguments]
    job = cluster.run(
        cluster.recipe, *arguments, FAKE_TRAINER="is_preempted,succeeds", term_when="trainer_started", num_nodes=4
    )
    assert (job.returncode, job.num_requeued) == (0, 1), job.stderr
    assert "SIGTERM received." in job.stdout
    assert "without a new checkpoint" not in job.stdout
    trainers = cluster.events("trainer")
    assert len(trainers) == 4  # two nodes, twice
    assert not any(trainer["has_marker"] for trainer in trainers)
    assert all(option(trainer["arguments"], "--resume_from_checkpoint") == "true" for trainer in trainers)
    assert not cluster.serves()


def test_preempted_while_the_server_starts(cluster):
    """Nothing is lost: the job is requeued without a trainer."""
    statuses = {"FAKE_SERVER": "never,healthy", "FAKE_TRAINER": "not started,succeeds"}
    job = cluster.run(cluster.recipe, term_when="server_started", **statuses)
    assert (job.returncode, job.num_requeued) == (0, 1), job.stderr
    assert len(cluster.events("server")) == 4  # two nodes, twice
    assert len(cluster.events("trainer")) == 1


def test_a_cancelled_job_is_not_requeued(cluster):
    statuses = {"FAKE_TRAINER": "is_preempted", "FAKE_JOB_STATE": "CANCELLED"}
    job = cluster.run(cluster.recipe, term_when="trainer_started", **statuses)
    assert (job.returncode, job.num_requeued) == (0, 0)
    assert "cancelled: it is not requeued" in job.stdout


def test_preempted_without_time_for_a_checkpoint(cluster):
    """There is an older one to go on from."""
    job = cluster.run(cluster.recipe, term_when="trainer_started", FAKE_TRAINER="is_killed,succeeds")
    assert (job.returncode, job.num_requeued) == (0, 1)
    assert "The trainer ended without a new checkpoint" in job.stdout


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"FAKE_SERVER": "never", "SERVER_TIMEOUT": "3"},
            r"127.0.0.1:\d+ did not answer in 3 s. Raise SERVER_TIMEOUT",
        ),
        ({"FAKE_SERVER": "dies"}, "The server ended before it answered"),
    ],
)
def test_a_server_that_does_not_come_up(cluster, environment, message):
    job = cluster.run(cluster.recipe, **environment)
    assert job.returncode == 1
    assert re.search(message, job.stderr)
    assert not cluster.events("trainer")
    assert not cluster.serves()


def test_a_trainer_that_fails(cluster):
    (cluster.out / "PREEMPTED").touch()  # of an earlier run
    job = cluster.run(cluster.recipe, FAKE_TRAINER="fails")
    assert (job.returncode, job.num_requeued) == (3, 0)
    assert "The trainer ended with status 3." in job.stdout
    assert not cluster.serves()


@pytest.mark.parametrize(
    ("arguments", "num_server_nodes", "num_nodes", "message"),
    [
        ([], 2, 3, "No recipe. Usage: sbatch --nodes=N"),
        (["missing.yaml"], 2, 3, "There is no recipe missing.yaml here .* Submit from the repository's root"),
        (["RECIPE"], 3, 3, "SERVER_NODES=3 leaves none of 3 nodes to train. Raise --nodes"),
        (["RECIPE"], 3, 4, "vllm_data_parallel_size=4 cannot be shared by SERVER_NODES=3. Change one of them."),
    ],
)
def test_refused(cluster, arguments, num_server_nodes, num_nodes, message):
    arguments = [cluster.recipe if word == "RECIPE" else word for word in arguments]
    job = cluster.run(*arguments, num_nodes=num_nodes, SERVER_NODES=str(num_server_nodes))
    assert job.returncode == 1
    assert re.search(message, job.stderr)
    assert not cluster.events("server") and not cluster.events("trainer")


def test_a_server_without_a_command(cluster):
    (cluster.directory / "printed").unlink()
    job = cluster.run(cluster.recipe)
    assert job.returncode == 1 and "The server's command could not be made" in job.stderr


def test_the_real_command_of_the_server(cluster, tmp_path, capsys):
    """What `dapo-trl vllm-command` prints comes through to `vllm`, with a space in a path and quotes."""
    fields = {
        "model_name_or_path": save_model(tmp_path / "my model"),
        "dataset_name": write_problems(tmp_path / "problems.jsonl"),
        "output_dir": str(cluster.out),
        "vllm_data_parallel_size": 2,
        "use_vllm": True,
        "vllm_mode": "server",
        "vllm_server_base_url": f"http://127.0.0.1:{cluster.port}",
    }
    vllm_command.main(["--config", write_recipe(cluster.recipe, fields)])
    (cluster.directory / "printed").write_text(capsys.readouterr().out)
    job = cluster.run(cluster.recipe)
    assert job.returncode == 0, job.stderr
    server = cluster.events("server")[0]["arguments"]
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
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    checked = subprocess.run(["shellcheck", *scripts], env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
