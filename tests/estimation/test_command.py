"""`dapo-trl estimate`: what it prints, what it advises, what it refuses."""

import re
import subprocess
import sys

import pytest
import yaml

from dapo_trl.commands.estimate import main, read_scenario
from dapo_trl.estimation.estimate import estimate
from dapo_trl.estimation.scenario import Sharding, read_sharding
from tests.recipes.table import RECIPES


CONFIGS = RECIPES / "accelerate_configs"
MATH_7B = ["--config", str(RECIPES / "Qwen2.5-Math-7B/one_node.yaml"), "--gpus", "4"]
SMALL = ["--config", str(RECIPES / "Qwen2.5-1.5B-Instruct/lora_24gb.yaml"), "--gpu-memory", "24"]
FULL = ["--config", str(RECIPES / "Qwen2.5-1.5B-Instruct/full_2x80gb.yaml"), "--gpus", "2"]
ZERO3 = ["--accelerate-config", str(CONFIGS / "zero3.yaml")]


def run(words: list[str], capsys) -> str:
    main(words)
    return capsys.readouterr().out


def fail(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 1
    return capsys.readouterr().out


def advice(output: str) -> list[str]:
    """The advised changes as options of the command."""
    lines = output[output.index("per rollout, with\n") :].splitlines()[1:]
    changes = yaml.safe_load("\n".join(line for line in lines if line.startswith("  ")))
    config = changes.pop("accelerate config", None)
    options = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    return [*options, *(["--accelerate-config", str(CONFIGS / config)] if config else [])]


def test_what_is_printed(capsys):
    output = run([*MATH_7B, *ZERO3], capsys)
    assert "Qwen/Qwen2.5-Math-7B: 7.62 B parameters, 6.53 B without embeddings" in output
    assert "4 x 80 GiB, ZeRO-3" in output
    assert "a vLLM server on 4 x 80 GiB, 4 copies of the model" in output
    assert "2048 trained on in 16 updates" in output
    assert "57344 bytes per token" in output
    # 16 bytes per parameter on 4 GPUs: weights and gradients 2, optimizer 12
    assert re.search(r"Training .* fits: weights 3.5, optimizer 21.3, .*gradients 3.5, activations", output)
    assert re.search(r"Generation \(server\) .* of 72.0  fits: weights 14.2", output)
    assert "312 TFLOP/s at 35%, 2039 GB/s at 60%" in output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (SMALL, "Trained      36.9 M parameters of adapters"),
        (SMALL, "1 x 24 GiB, one process (assumed: no --accelerate-config is given)\n"),
        (FULL, "2 x 80 GiB, DDP (assumed: no --accelerate-config is given)\n"),
        ([*MATH_7B, *ZERO3], "4 x 80 GiB, ZeRO-3\n"),
        ([*SMALL, "--per_device_train_batch_size", "4"], "128 trained on in 4 updates"),
        (SMALL, ", 1 hour for 200 rollouts."),
        ([*SMALL, "--max_steps", "1600"], ", 3 hours for 400 rollouts."),
    ],
)
def test_a_line_that_is_printed(words, text, capsys):
    assert text in run(words, capsys)


def test_torch_is_not_loaded_for_the_help():
    code = "import sys, dapo_trl.commands.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_help_tells_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "GPUs of the trainer only, without those of a vLLM server; default: 1" in text
    assert "memory of each GPU in GiB; default: 80" in text
    assert "in TFLOP/s (an A100's if not given); default: 312" in text
    assert "reach; default: 0.35" in text


def test_both_spellings_of_options():
    for dash in ("-", "_"):
        config = [f"--accelerate{dash}config", str(CONFIGS / "zero3.yaml")]
        scenario = read_scenario([*SMALL, f"--gpu{dash}memory=0.5", f"--completion{dash}length", "9", *config])
        assert (scenario.gpu_memory, scenario.completion_length) == (0.5, 9)
        assert scenario.sharding == Sharding("zero", 3)


def test_assumptions_change_the_time():
    def seconds(*options: str) -> dict[str, float]:
        return estimate(read_scenario([*SMALL, *options])).seconds

    usual = seconds()
    assert seconds("--peak", "624")["training"] == pytest.approx(usual["training"] / 2)
    assert seconds("--mfu", "0.7")["scoring"] == pytest.approx(usual["scoring"] / 2)
    assert seconds("--bandwidth", "4078")["generation"] < usual["generation"]
    assert seconds("--bandwidth-utilization", "0.9")["generation"] < usual["generation"]
    assert seconds("--acceptance", "0.2")["generation"] > 1.5 * usual["generation"]
    assert seconds("--completion-length", "512")["training"] > usual["training"]
    assert seconds("--prompt-length", "400")["training"] > usual["training"]


def test_offloading_is_told_to_be_slower(capsys):
    # 7.616 B parameters: with ZeRO-3 16 bytes each in CPU memory, over 4 GPUs
    problems = fail([*MATH_7B, "--gpu-memory", "16"], capsys)
    assert "Offloading is slower than these minutes say: traffic with CPU memory is not estimated." in problems
    assert "For each GPU it keeps 28.4 GiB of weights, gradients and optimizer states in CPU memory" in problems
    assert "Offloading" not in fail([*MATH_7B, "--dtype", "float32"], capsys)


# What does not fit


@pytest.mark.parametrize(
    ("words", "phase", "largest", "field"),
    [
        ([*MATH_7B, *ZERO3, "--gpu-memory", "40"], "Training", "optimizer", "per_device_train_batch_size: 2"),
        ([*FULL, "--gradient_checkpointing", "false"], "Training", "activations", "gradient_checkpointing: true"),
        ([*MATH_7B, "--dtype", "float32"], "Training", "optimizer", "accelerate config: zero3.yaml"),
        ([*MATH_7B, "--gpu-memory", "16"], "Training", "optimizer", "accelerate config: zero3_offload.yaml"),
        # vLLM's share has to be lowered on the way, and not in the end
        ([*FULL[:2], "--gpu-memory", "24"], "Training", "optimizer", "accelerate config: zero3_offload.yaml"),
        ([*SMALL, "--gpu-memory", "12", "--vllm_enable_sleep_mode", "false"], "Training", "vLLM", "sleep_mode: true"),
        ([*FULL, "--vllm_gpu_memory_utilization", "0.9"], "Generation (trainer)", "vLLM", "utilization: 0.65"),
        (
            [*SMALL, "--vllm_gpu_memory_utilization", "0.1"],
            "Generation (vLLM's share)",
            "weights",
            "utilization: 0.75",
        ),
    ],
)
def test_the_advice_is_needed_and_suffices(words, phase, largest, field, capsys):
    output = fail(words, capsys)
    problems = output[output.index("rollouts.\n") :]
    assert phase in problems and largest in problems
    assert field in problems
    changed = run([*words, *advice(output)], capsys)
    assert "TOO MUCH" not in changed
    for kept in (r"\d+ trained on in \d+ updates", r"vLLM server on \d+ x"):
        assert re.findall(kept, changed) == re.findall(kept, output)


def test_shorter_completions_keep_their_share_of_punished_tokens(capsys):
    options = advice(fail([*FULL, "--use_vllm", "false", "--accelerate-config", str(CONFIGS / "fsdp2.yaml")], capsys))
    changes = dict(zip(options[::2], options[1::2], strict=True))
    # 819 of 4096 tokens
    assert (changes["--max_completion_length"], changes["--soft_punish_cache"]) == ("2048", "409")


def test_two_copies_of_a_large_model_do_not_fit(capsys):
    """Why the recipe for 24 GB generates without vLLM."""
    words = ["--config", str(RECIPES / "Qwen2.5-7B-Instruct/lora_24gb.yaml"), "--gpu-memory", "24"]
    assert advice(fail([*words, "--use_vllm", "true"], capsys)) == ["--use_vllm", "False"]
    run([*words[:-1], "48", "--use_vllm", "true", "--vllm_gpu_memory_utilization", "0.6"], capsys)


def test_no_change_suffices(capsys):
    words = ["--config", str(RECIPES / "Qwen3-0.6B/lora_8gb.yaml"), "--gpu-memory", "1"]
    assert "No change to the recipe known to this command suffices: take more or larger GPUs." in fail(words, capsys)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gpus", "0"], "--gpus must be above 0, but is 0"),
        (["--gpu-memory", "-1"], "--gpu-memory must be above 0, but is -1.0"),
        (["--acceptance", "1.5"], "--acceptance is a share: it must be above 0 and at most 1, but is 1.5"),
        (["--mfu", "0"], "--mfu is a share"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        main([*SMALL, *options])


def test_an_unknown_field_is_an_error():
    with pytest.raises(ValueError, match="num_generation_s"):
        main([*SMALL, "--num_generation_s", "8"])


def test_no_room_for_a_prompt():
    with pytest.raises(
        ValueError, match="vllm_max_model_length=4096 tokens leave no room for a prompt beside max_com"
    ):
        main([*MATH_7B, "--max_completion_length", "4096"])


def test_a_batch_that_cannot_be_shared_is_an_error():
    with pytest.raises(ValueError, match="A rollout is made of whole groups: change num_generations"):
        main([*MATH_7B, "--num_generations", "48"])


@pytest.mark.parametrize(
    ("name", "num_gpus", "expected"),
    [
        ("cpu", 1, Sharding("none")),
        ("single_gpu", 1, Sharding("none")),
        ("ddp", 8, Sharding("ddp")),
        ("zero2", 8, Sharding("zero", 2)),
        ("zero3", 8, Sharding("zero", 3)),
        ("zero3_offload", 8, Sharding("zero", 3, True, True)),
        ("fsdp2", 8, Sharding("fsdp")),
    ],
)
def test_accelerate_configurations(name, num_gpus, expected):
    assert read_sharding(str(CONFIGS / f"{name}.yaml"), num_gpus) == expected


def test_a_file_of_deepspeed_is_not_read(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("distributed_type: DEEPSPEED\ndeepspeed_config:\n  deepspeed_config_file: z3.json\n")
    with pytest.raises(ValueError, match="refers to a DeepSpeed file, which this command does not read. Set"):
        read_sharding(str(config), 8)
