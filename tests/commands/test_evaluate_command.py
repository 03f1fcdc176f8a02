"""`dapo-trl evaluate` from a model and a file to a summary, stopped and continued."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dapo_trl import train as train_module
from dapo_trl.commands import compare
from dapo_trl.commands.evaluate import main
from dapo_trl.commands.merge_adapter import merge_adapter
from dapo_trl.evaluation import run as run_module
from dapo_trl.evaluation.compare import NotComparableError
from dapo_trl.evaluation.completions import CompletionsFile
from dapo_trl.evaluation.summary import read_summary

from ..command import save_model, write_problems, write_recipe
from ..helpers import char_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> dict[str, str]:
    """Where the model and the data are."""
    directory = tmp_path_factory.mktemp("base")
    return {"model": save_model(directory / "model"), "data": write_problems(directory / "problems.jsonl")}


@pytest.fixture
def arguments(base, tmp_path):
    """The command line of a small evaluation; fields that differ, None takes one out."""

    def write(**fields) -> list[str]:
        fields = {
            **base,
            "output_dir": str(tmp_path / "out"),
            "k": 3,
            "num_problems": 6,
            "max_completion_length": 8,
            "batch_size": 5,
            "top_p": 1.0,
            "prompt_template": "{problem}",
            "dtype": "float32",
        } | fields
        return [word for name, value in fields.items() if value is not None for word in (f"--{name}", str(value))]

    return write


@pytest.fixture
def sampled(monkeypatch) -> list:
    """The requests that backends were asked for."""
    asked, make = [], run_module.make_sampler

    def make_sampler(*args):
        sample = make(*args)
        return lambda requests, save: (asked.extend(requests), sample(requests, save))

    monkeypatch.setattr(run_module, "make_sampler", make_sampler)
    return asked


def files(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]]


def test_from_a_model_to_a_summary(arguments, base, tmp_path, capsys):
    main(arguments())
    (completions,), (path,) = (files(tmp_path / "out", pattern) for pattern in ("completions-*", "summary-*"))
    summary = read_summary(path)
    assert (summary["completions_file"], summary["model"]["name"]) == (completions.name, base["model"])
    assert re.fullmatch(r"summary-problems-[0-9a-f]{12}-k3-auto-2.json", path.name)
    assert (summary["data"]["num_problems"], summary["data"]["num_rows"]) == (6, 20)
    assert list(summary["measures"]) == ["avg@3", "maj@3", "pass@1", "pass@2", "pass@3"]
    assert summary["sampling"] | {"k": 3, "top_p": 1.0, "seed": 42, "backend": "transformers"} == summary["sampling"]
    assert summary["judging"] == {
        "answer_rule": "auto-2",
        "answer_rule_from": "default",
        "thinking_tags": ["<think>", "</think>"],
    }
    assert sum(summary["verifier"].values()) == 18
    assert {"python", "dapo_trl", "torch", "transformers"} <= summary["versions"].keys()
    assert len(rows(completions)) == 18
    problem = summary["problems"][0]
    assert (problem["problem"], problem["gold"], len(problem["answers"])) == ("0+0=", "0", 3)
    printed = capsys.readouterr().out
    assert "6 problems, k = 3, answer rule auto-2" in printed
    assert str(path) in printed
    assert re.search(r"avg@3 +0\.000 +0\.000 to 0\.\d+\n", printed)  # a random model solves none


def test_results_stand_beside_a_local_model(arguments, base, capsys):
    main(arguments(output_dir=None, num_problems=1, k=1))
    assert re.search(r"avg@1 +[01]\.000 +-\n", capsys.readouterr().out)
    assert len(files(Path(base["model"]) / "evaluation", "summary-*-k1-auto-2.json")) == 1


def test_settings_from_yaml_and_the_command_line_beats_them(arguments, base, tmp_path):
    path = tmp_path / "evaluate.yaml"
    fields = {**base, "output_dir": str(tmp_path / "out"), "k": 4, "num_problems": 1, "max_completion_length": 4}
    path.write_text(yaml.safe_dump(fields | {"chat_template_kwargs": {"think": True}}))
    main(["--config", str(path), "--k", "2", "--temperature", "0.5"])
    (summary,) = files(tmp_path / "out", "summary-*")
    sampling = read_summary(summary)["sampling"]
    assert (sampling["k"], sampling["temperature"], sampling["chat_template_kwargs"]) == (2, 0.5, {"think": True})


def test_an_unknown_key_is_an_error(tmp_path):
    path = tmp_path / "evaluate.yaml"
    path.write_text("model: m\ndata: gsm8k\ntemprature: 0.5\n")
    with pytest.raises(ValueError, match="unknown key `temprature`; did you mean `temperature`\\?"):
        main(["--config", str(path)])


# Continuing


def test_a_continued_evaluation_equals_an_uninterrupted_one(arguments, sampled, tmp_path):
    main(arguments())
    whole, (path,) = list(sampled), files(tmp_path / "out", "completions-*")
    lines = path.read_bytes().splitlines(keepends=True)
    summary = files(tmp_path / "out", "summary-*")[0].read_text()
    # Killed in the middle of a batch, and of a line.
    path.write_bytes(b"".join(lines[:9]) + lines[9][:30])
    sampled.clear()
    main(arguments())
    assert len(sampled) == len(whole) - 8
    assert sorted(path.read_bytes().splitlines()) == sorted(line.rstrip() for line in lines)
    again = files(tmp_path / "out", "summary-*")[0].read_text()
    assert {**json.loads(summary), "created": ""} == {**json.loads(again), "created": ""}


def test_a_larger_k_adds_to_what_is_there(arguments, sampled, tmp_path):
    main(arguments(k=2))
    main(arguments(k=4))
    (path,) = files(tmp_path / "out", "completions-*")
    assert len(rows(path)) == 24
    assert [request.sample for request in sampled[12:]] == [2, 3] * 6
    assert len(files(tmp_path / "out", "summary-*")) == 2


def test_long_prompts_come_first(arguments, sampled, tmp_path):
    data = tmp_path / "lengths.jsonl"
    data.write_text("".join(json.dumps({"problem": "1" * size, "answer": "1"}) + "\n" for size in (2, 5, 3)))
    main(arguments(data=str(data), k=2))
    order = [(len(request.prompt_ids), request.sample) for request in sampled]
    assert order == [(5, 0), (5, 1), (3, 0), (3, 1), (2, 0), (2, 1)]


def test_a_finished_evaluation_loads_no_model_again(arguments, sampled, monkeypatch):
    main(arguments())
    monkeypatch.setattr(run_module, "make_sampler", None)
    main(arguments(answer_rule="boxed"))
    assert len(sampled) == 18


@pytest.mark.parametrize(
    "field", [{"temperature": 0.9}, {"seed": 1}, {"max_completion_length": 9}, {"num_problems": 5}]
)
def test_other_settings_begin_another_file(arguments, tmp_path, field):
    main(arguments(k=1))
    main(arguments(**{"k": 1} | field))
    first, second = files(tmp_path / "out", "completions-*")
    assert len(rows(first)) + len(rows(second)) == 12 - (field == {"num_problems": 5})


def test_another_batch_size_continues(arguments, sampled, tmp_path):
    main(arguments())
    (path,) = files(tmp_path / "out", "completions-*")
    whole = sorted(path.read_text().splitlines())
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    main(arguments(batch_size=2))
    assert sorted(path.read_text().splitlines()) == whole


def test_a_model_with_other_weights_begins_another_file(arguments, base, tmp_path):
    model = save_model(tmp_path / "model")
    main(arguments(k=1, model=model))
    os.utime(f"{model}/model.safetensors", ns=(1, 1))
    main(arguments(k=1, model=model))
    assert len(files(tmp_path / "out", "completions-*")) == 2


def test_killed_and_continued(arguments, tmp_path):
    main(arguments(k=200, batch_size=400))
    (whole,) = files(tmp_path / "out", "completions-*")
    other = {"k": 200, "output_dir": str(tmp_path / "killed")}
    slow = arguments(**other, batch_size=1)
    process = subprocess.Popen([sys.executable, "-m", "dapo_trl", "evaluate", *slow], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        started = files(tmp_path / "killed", "completions-*")
        if started and started[0].read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.005)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    (killed,) = files(tmp_path / "killed", "completions-*")
    assert 5 <= killed.read_bytes().count(b"\n") < 1201
    main(arguments(**other, batch_size=400))
    assert sorted(killed.read_text().splitlines()) == sorted(whole.read_text().splitlines())


def test_ctrl_c_says_that_the_same_command_continues(arguments, monkeypatch, tmp_path, capsys):
    def interrupt(self, request, completion):
        add(self, request, completion)
        raise KeyboardInterrupt

    add = CompletionsFile.add
    monkeypatch.setattr(CompletionsFile, "add", interrupt)
    with pytest.raises(SystemExit) as stopped:
        main(arguments())
    assert stopped.value.code == 130
    assert f"What is done is in {tmp_path / 'out'}; the same command continues." in capsys.readouterr().err
    assert len(rows(files(tmp_path / "out", "completions-*")[0])) == 1


# The answer rule


def test_the_rule_of_the_training_is_the_default(arguments, tmp_path, caplog):
    model = save_model(tmp_path / "model")
    (tmp_path / "model" / "dapo_trl.json").write_text('{"answer_rules": {"accuracy": "math_dapo-1"}}')
    caplog.set_level("INFO")
    main(arguments(model=model, k=1))
    summary = read_summary(files(tmp_path / "out", "summary-*")[0])
    assert summary["judging"] == {
        "answer_rule": "math_dapo-1",
        "answer_rule_from": "model",
        "thinking_tags": None,
    }
    assert summary["model"]["metadata"] == {"answer_rules": {"accuracy": "math_dapo-1"}}
    assert "Answer rule (model): math_dapo-1." in caplog.text


@pytest.mark.parametrize(("given", "used"), [({}, ["<t>", "</t>"]), ({"thinking_tags": "[T] [/T]"}, ["[T]", "[/T]"])])
def test_the_thinking_tags_of_the_training_are_the_default(arguments, tmp_path, given, used):
    model = save_model(tmp_path / "model")
    (tmp_path / "model" / "dapo_trl.json").write_text('{"thinking_tags": {"accuracy": ["<t>", "</t>"]}}')
    words = arguments(model=model, k=1)
    main([*words, "--thinking_tags", *given["thinking_tags"].split()] if given else words)
    summary = read_summary(files(tmp_path / "out", "summary-*")[0])
    assert summary["judging"]["thinking_tags"] == used


# The form of the prompts


@pytest.fixture(scope="module")
def trained_run(base, tmp_path_factory) -> dict[str, str]:
    """Directories of what a run on messages has left: a checkpoint, the final adapter, and the merged model."""
    directory = tmp_path_factory.mktemp("trained")
    model, out = save_model(directory / "model"), directory / "out"
    template = "{% if brief %}<{% endif %}{% for m in messages %}{{ m.content }}|{% endfor %}"
    char_tokenizer(template).save_pretrained(model)
    data = [
        {"prompt": [{"role": "system", "content": "0"}, {"role": "user", "content": f"{a}+4"}], "solution": "5"}
        for a in range(8)
    ]
    (directory / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    fields = {"model_name_or_path": model, "dataset_name": str(directory / "data.jsonl"), "output_dir": str(out)}
    fields |= {
        "use_peft": True,
        "lora_target_modules": ["q_proj", "v_proj"],
        "lora_dropout": 0.0,
        "max_steps": 1,
        "prompt_template": "={problem}=",
    }
    fields |= {"chat_template_kwargs": {"brief": True}}
    train_module.main(["--config", write_recipe(directory / "recipe.yaml", fields)])
    merge_adapter(str(out), str(directory / "merged"))
    return {"checkpoint": f"{out}/checkpoint-1", "adapter": str(out), "merged": f"{directory}/merged", "base": model}


def prompts_of(directory: Path) -> dict:
    (path,) = files(directory, "summary-*")
    return read_summary(path)["prompts"]


@pytest.mark.parametrize("kind", ["checkpoint", "adapter", "merged"])
def test_a_trained_model_is_asked_as_in_its_training(arguments, trained_run, sampled, tmp_path, kind):
    main(arguments(model=trained_run[kind], prompt_template=None, num_problems=1, k=1))
    prompts = prompts_of(tmp_path / "out")
    # The template, the system prompt and the chat template's argument of the run, around the evaluation's problem.
    assert prompts["example"]["sent"] == "<0|=0+0==|"
    assert sampled[0].prompt == [{"role": "system", "content": "0"}, {"role": "user", "content": "=0+0=="}]
    assert (prompts["form_from"], prompts["chat_template_kwargs"]) == ("model", {"brief": True})


def test_a_base_model_is_asked_like_a_trained_one_and_compared(arguments, trained_run, tmp_path, caplog):
    common = {"prompt_template": None, "num_problems": 2, "k": 1}
    for name, fields in {
        "A": {"model": trained_run["adapter"]},
        "B": {},
        "C": {"like": trained_run["adapter"]},
    }.items():
        main(arguments(**common | {"model": trained_run["base"], "output_dir": str(tmp_path / name)} | fields))
    prompts = prompts_of(tmp_path / "C")
    assert prompts | {"form_from": "model"} == prompts_of(tmp_path / "A") and prompts["form_from"] == "like"
    (a,), (b,), (c,) = (files(tmp_path / name, "summary-*") for name in "ABC")
    with pytest.raises(NotComparableError, match=f"{trained_run['base']} with --like {trained_run['adapter']}[.]$"):
        compare.main([str(b), str(a)])
    compare.main([str(c), str(a)])


def test_a_given_template_is_warned_of(arguments, trained_run, tmp_path, caplog):
    main(arguments(model=trained_run["adapter"], prompt_template="{problem}", num_problems=1, k=1))
    assert prompts_of(tmp_path / "out")["example"]["sent"] == "<0|0+0=|"
    assert "prompt_template='{problem}' is not what the model was trained with, '={problem}='" in caplog.text


def test_dialogues_stay_as_they_are(arguments, trained_run, tmp_path, caplog):
    turns = [{"role": role, "content": role[0]} for role in ("user", "assistant", "user")]
    (tmp_path / "dialogues.jsonl").write_text(json.dumps({"prompt": turns, "solution": "1"}) + "\n")
    data = str(tmp_path / "dialogues.jsonl")
    main(arguments(model=trained_run["adapter"], data=data, prompt_template=None, num_problems=1, k=1))
    assert "1 of the 1 prompts are conversations of several turns, and stay as they are" in caplog.text


# What need not be loaded


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_help_and_comparing_need_no_model(command):
    code = (
        f"import sys, dapo_trl.__main__ as cli\ntry: cli.main(['{command}', '--help'])\nfinally: print(*sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert finished.stdout.startswith(f"usage: dapo-trl {command}")
    assert not {"torch", "transformers", "datasets", "peft"} & set(finished.stdout.splitlines()[-1].split())


# What is refused


@pytest.mark.parametrize(
    ("num_chars", "max_completion_length", "rest"), [(4, 2045, 2044), (2048, 1, 0)], ids=["completion", "prompt"]
)
def test_what_exceeds_the_models_context(arguments, tmp_path, num_chars, max_completion_length, rest):
    data = tmp_path / "long.jsonl"
    data.write_text(json.dumps({"problem": "1" * num_chars, "answer": "1"}) + "\n")
    message = (
        f"max_completion_length={max_completion_length} and the longest prompt, {num_chars} tokens, exceed the "
        f"model's context of 2048. Give --max_completion_length {rest} or less"
    )
    with pytest.raises(ValueError, match=message):
        main(arguments(data=str(data), max_completion_length=max_completion_length))


def test_vllm_that_is_not_installed(arguments, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"backend='vllm' needs vLLM.*pip install dapo_trl\[vllm\]"):
        main(arguments(backend="vllm"))


# Comparing


def test_compare(arguments, base, tmp_path, capsys):
    main(arguments())
    main(arguments(seed=1))
    paths = files(tmp_path / "out", "summary-*")
    capsys.readouterr()
    compare.main([*map(str, paths)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"A: {base['model']}\nB: {base['model']}\nproblems: 6 problems, answer rule auto-2\n")
    assert re.search(r"avg@3 +0\.000 +0\.000 +\+0\.000 +-\n", printed)
