"""The command that starts a recipe's server."""

import subprocess

import pytest
from datasets import Dataset
from trl import ModelConfig

from dapo_trl import DAPOConfig
from dapo_trl.commands.vllm_command import main
from dapo_trl.generation.vllm.command import format_command, longest_prompt, server_command

from ..command import save_model, write_problems, write_recipe
from ..helpers import CHAT_TEMPLATE, char_tokenizer


SERVER = {"use_vllm": True, "vllm_mode": "server"}


def command(model: str = "org/Model-7B", data_parallel_size: int = 1, dtype: str = "float32", **fields) -> list[str]:
    args = DAPOConfig(**{"use_cpu": True, "bf16": False, "max_completion_length": 100, "output_dir": "out"} | fields)
    return server_command(args, ModelConfig(model_name_or_path=model, dtype=dtype), 28, data_parallel_size)


def read_by_shell(text: str) -> list[str]:
    """Words that a shell makes of a command."""
    output = subprocess.run(["sh", "-c", f"printf '%s\\n' {text}"], check=True, capture_output=True, text=True).stdout
    return output.splitlines()


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_the_whole_command():
    words = command(vllm_tensor_parallel_size=2, data_parallel_size=4, bf16=True)
    assert words == [
        *("VLLM_SERVER_DEV_MODE=1", "vllm", "serve", "org/Model-7B"),
        *("--dtype", "bfloat16", "--max-model-len", "128"),
        *("--tensor-parallel-size", "2", "--data-parallel-size", "4"),
        *("--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1"),
        *("--weight-transfer-config", '{"backend": "nccl"}'),
        *("--host", "127.0.0.1", "--port", "8000"),
    ]


def test_a_shell_reads_what_is_meant():
    words = command(model="with space/model")
    assert read_by_shell(format_command(words)) == words


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"bf16": True}, "bfloat16"),
        ({"bf16": False, "dtype": "float32"}, "float32"),
        ({"bf16": False, "dtype": "bfloat16"}, "bfloat16"),
        ({"bf16": False, "model_init_kwargs": {"dtype": "float16"}}, "float16"),
    ],
)
def test_the_server_computes_as_the_trainer_does(fields, expected):
    assert option(command(**fields), "--dtype") == expected


def test_fields_of_the_recipe():
    words = command(vllm_max_model_length=4096, trust_remote_code=True, vllm_model_impl="transformers")
    assert option(words, "--max-model-len") == "4096"
    assert option(words, "--model-impl") == "transformers"
    assert words[-1] == "--trust-remote-code"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("127.0.0.1", "8000")),
        ({"vllm_server_host": "0.0.0.0"}, ("127.0.0.1", "8000")),
        ({"vllm_server_base_url": "http://0.0.0.0:9000"}, ("127.0.0.1", "9000")),
        ({"vllm_server_base_url": "http://localhost:9000"}, ("localhost", "9000")),
        ({"vllm_server_host": "::"}, ("::1", "8000")),
    ],
)
def test_without_another_machine_nobody_else_can_send_weights(fields, expected):
    words = command(**fields)
    assert (option(words, "--host"), option(words, "--port")) == expected


def test_address():
    words = command(vllm_server_base_url="http://10.0.0.7:9000")
    assert (option(words, "--host"), option(words, "--port")) == ("10.0.0.7", "9000")
    words = command(vllm_server_base_url="http://user:pass@[::1]")
    assert (option(words, "--host"), option(words, "--port")) == ("::1", "80")
    words = command(vllm_server_host="gpu-1", vllm_server_port=8100)
    assert (option(words, "--host"), option(words, "--port")) == ("gpu-1", "8100")


def test_longest_prompt():
    plain = Dataset.from_dict({"prompt": ["12", "12345", "1"]})
    other = Dataset.from_dict({"prompt": ["123456789"]})
    assert longest_prompt([plain, None, iter([])], char_tokenizer(), None) == 5
    assert longest_prompt([plain, other], char_tokenizer(), None) == 9
    messages = Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in ("12", "12345")]})
    tokenizer = char_tokenizer(CHAT_TEMPLATE)
    text = tokenizer.apply_chat_template(messages[1]["prompt"], add_generation_prompt=True, tokenize=False)
    assert longest_prompt([messages], tokenizer, None) == len(tokenizer(text)["input_ids"])


def test_printed_on_a_machine_without_the_gpu_of_the_recipe(tmp_path, capsys):
    problems = write_problems(tmp_path / "problems.jsonl")
    fields = {"model_name_or_path": save_model(tmp_path / "model"), "dataset_name": problems} | SERVER
    recipe = write_recipe(tmp_path / "recipe.yaml", fields | {"use_cpu": False, "bf16": True})
    main(["--config", recipe])
    assert "--dtype bfloat16" in capsys.readouterr().out


def test_printed_from_a_recipe(tmp_path, capsys):
    model = save_model(tmp_path / "model")
    fields = {
        "model_name_or_path": model,
        "dataset_name": write_problems(tmp_path / "problems.jsonl"),
        "output_dir": str(tmp_path / "out"),
        "vllm_data_parallel_size": 3,
        **SERVER,
    }
    main(["--config", write_recipe(tmp_path / "recipe.yaml", fields)])
    output = capsys.readouterr().out
    printed = read_by_shell(output[output.index("VLLM_SERVER_DEV_MODE") :])  # libraries print before
    assert printed[:4] == ["VLLM_SERVER_DEV_MODE=1", "vllm", "serve", model]
    assert option(printed, "--max-model-len") == str(len("3+4=") + 8)
    assert option(printed, "--data-parallel-size") == "3"
    assert not (tmp_path / "out").exists()


def test_a_recipe_with_its_length_needs_neither_model_nor_data(tmp_path, capsys):
    fields = {"model_name_or_path": "no/model", "dataset_name": "no/data", "vllm_max_model_length": 512, **SERVER}
    main(["--config", write_recipe(tmp_path / "recipe.yaml", fields)])
    assert "--max-model-len 512" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_vllm": False}, "use_vllm=False: this recipe needs no server.* set use_vllm to true and vllm_mode"),
        ({"vllm_mode": "colocate"}, "vllm_mode='colocate': this recipe needs no server"),
    ],
)
def test_a_recipe_without_a_server_has_no_command(tmp_path, fields, message):
    recipe = write_recipe(tmp_path / "recipe.yaml", {"model_name_or_path": "m", "dataset_name": "d"} | SERVER | fields)
    with pytest.raises(ValueError, match=message):
        main(["--config", recipe])
