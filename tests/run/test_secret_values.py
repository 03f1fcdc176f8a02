"""No secret stands in anything that is written, however it is given and spelled."""

import base64
import html
import json
import logging
import random
import re
import string
import sys
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
import torch
import yaml

from dapo_trl import DAPOConfig
from dapo_trl import train as train_module
from dapo_trl.commands import evaluate as evaluate_module
from dapo_trl.commands import model_card, report
from dapo_trl.commands.command_line import errors_in_one_line
from dapo_trl.commands.recipe_parser import RecipeParser
from dapo_trl.hub.recipe import save_recipe
from dapo_trl.monitoring.logs import MetricsFileCallback
from dapo_trl.run import secret_values
from dapo_trl.run.secret_values import (
    NOT_PUBLISHED,
    is_secret_name,
    mask_logs,
    mask_text,
    mask_values,
    mask_words,
    masking_errors,
    remember,
)

from ..command import save_model, starts_low, write_problems, write_recipe


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(secret_values, "_remembered", set())
    monkeypatch.setattr(secret_values, "get_token", lambda: None)


# Names


@pytest.mark.parametrize(
    "name",
    [
        *("hub_token", "--hub-token", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_2", "token", "WANDB_API_KEY"),
        *("apiKey", "x-api-key", "AWS_SECRET_ACCESS_KEY", "client_secret", "DB_PASSWORD", "PGPASSWORD", "api_keys"),
        *("GITHUB_PAT", "API_KEY_OF_JUDGE", "hub_token_value", "secret_of_x", "basic_auth", "VLLM_API_KEY", "JWT"),
        *("Authorization", "credentials", "access_tokens", "passphrase", "MY_SECRET", "MYSQL_PWD", "session_cookies"),
        "AZURE_STORAGE_CONNECTION_STRING",
    ],
)
def test_names_of_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("eos_token", "pad_token", "max_tokens", "token_normalization", "HF_TOKEN_PATH", "PWD", "stop_tokens"),
        *("average_tokens_across_devices", "include_num_input_tokens_seen", "prompt_key", "tokenizer", "keyboard", ""),
        *("additional_special_tokens", "TOKENIZERS_PARALLELISM", "SSH_AUTH_SOCK", "XAUTHORITY", "num_tokens"),
        *("AWS_ACCESS_KEY_ID", "PASSWORD_FILE", "secret_name", "hub_private_repo", "hub_model_id", "PATH"),
        *("pass@8", "OLDPWD"),
    ],
)
def test_names_of_other_things(name):
    assert not is_secret_name(name)


def test_our_own_fields_hold_one_secret():
    fields = vars(train_module.make_parser().parse_args(["--dataset_name", "d"]))
    assert [name for name in fields if is_secret_name(name)] == ["hub_token"]


# Values


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({"hub_token": "hf_abcdefgh"}, "x=hf_abcdefgh1", "x=not-published1"),
        ({"a": {"b": [{"api_key": "sk-12345678"}]}}, "of sk-12345678.", "of not-published."),
        ({"kwargs": '{"token": "abcdefgh"}'}, "abcdefgh", "not-published"),
        ({"hub_token": 123456789}, "id 123456789", "id not-published"),
        ({"headers": {"Authorization": "Bearer abcdefgh"}}, "the abcdefgh", "the not-published"),
        ({"url": "http://me:pa55word@host/v1"}, "with pa55word", "with not-published"),
        ({"url": "https://hf_abcdefgh@host"}, "hf_abcdefgh", "not-published"),
        ({"url": "http://me:pa%24%24word@host"}, "pa$$word", "not-published"),
        ({"url": "http://host/?x=1&api_key=abcdefgh"}, "abcdefgh", "not-published"),
        ({"words": ["--port", "80001234", "--api-key", "abcdefgh"]}, "80001234 abcdefgh", "80001234 not-published"),
        ({"private_key": "BEGIN KEY\nabcdefghij\nEND"}, "# abcdefghij", "# not-published"),
        ({"api_key": "abc\udcffdefgh"}, "abc\udcffdefgh", "not-published"),  # not UTF-8, in the environment
        # 4 to 7 characters: words of their own.
        ({"hub_token": "abc4"}, "abc4, xabc4, abc4_e", "not-published, xabc4, not-published_e"),
        ({"hub_token": "aBcD"}, "aBcD", "not-published"),
        # Too short or too common: not by their value.
        ({"hub_token": "abc"}, "abc", "abc"),
        ({"hub_token": "true", "api_key": "None", "pass": "123456"}, "true None 123456", "true None 123456"),
        ({"api_key": "step", "my_secret": "Answer"}, "step by step to the Answer", "step by step to the Answer"),
        ({"my_password": "password"}, "password", "password"),
        ({"api_key": "<|im_end|>", "token": "$HF_TOKEN"}, "<|im_end|> $HF_TOKEN", "<|im_end|> $HF_TOKEN"),
        ({"hub_token": None, "token": True}, "None True", "None True"),
        ({"hub_token": ""}, "text", "text"),
        ({"eos_token": "</abcdefgh>"}, "</abcdefgh>", "</abcdefgh>"),
    ],
)
def test_what_is_masked_in_texts(settings, text, expected):
    remember(settings)
    assert mask_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:pw@host:80/v1", "http://not-published@host:80/v1"),
        ("no http://host/@me?x=a@b", "no http://host/@me?x=a@b"),
        ("http://me:p@ss@host", "http://not-published@host"),
        ("GET http://host/?token=abc&max_tokens=5", "GET http://host/?token=not-published&max_tokens=5"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_addresses(text, expected):
    assert mask_text(text) == expected


def test_values_by_their_names_and_by_what_they_hold():
    remember({"hub_token": "hf_abcdefgh"})
    value = {"hub_token": "ab", "n": 3, "x": ["hf_abcdefgh", {"token": 5, "eos_token": "</s>"}], "t": ("hf_abcdefgh",)}
    assert mask_values(value) == {
        "hub_token": NOT_PUBLISHED,
        "n": 3,
        "x": [NOT_PUBLISHED, {"token": NOT_PUBLISHED, "eos_token": "</s>"}],
        "t": (NOT_PUBLISHED,),
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--hub-token", "ab", "--seed", "1"], ["--hub-token", NOT_PUBLISHED, "--seed", "1"]),
        (["--hub_token=ab"], ["--hub_token=not-published"]),
        (["--model_init_kwargs", '{"token": "ab"}'], ["--model_init_kwargs", '{"token": "not-published"}']),
        (["--model_init_kwargs", '{"a":1}'], ["--model_init_kwargs", '{"a":1}']),
        (["--url=http://a:b@h"], ["--url=http://not-published@h"]),
        (["--run_name", "--say http://a:b@h"], ["--run_name", "--say http://not-published@h"]),
    ],
)
def test_words_of_a_command_line(words, expected):
    assert mask_words(words) == expected


def test_a_path_of_this_machine_is_none(tmp_path):
    remember({"SSL_KEY": str(tmp_path), "key": f"{tmp_path}/absent"})
    assert mask_text(f"{tmp_path}/out {tmp_path}/absent") == f"{tmp_path}/out {NOT_PUBLISHED}"


def test_secrets_of_the_environment_and_the_login(monkeypatch):
    for name in ("HF_TOKEN", "WANDB_API_KEY", "MY_SECRET", "DB_PASSWORD", "VLLM_API_KEY", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, f"value-of-{name}")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:proxypass@host")
    monkeypatch.setattr(secret_values, "get_token", lambda: "hf_login123")
    text = "value-of-HF_TOKEN value-of-WANDB_API_KEY value-of-MY_SECRET value-of-DB_PASSWORD value-of-VLLM_API_KEY"
    text += " value-of-HUGGING_FACE_HUB_TOKEN proxypass hf_login123"
    assert mask_text(text) == " ".join([NOT_PUBLISHED] * 8)


# Any secret, in any spelling


def random_secret(random_source: random.Random) -> str:
    """A token; visible characters; characters that one or other format writes in another way, also spaces."""
    length = random_source.randrange(8, 40)
    letters = string.ascii_letters + string.digits
    alphabets = (letters, string.printable.strip(), letters + " äß漢'\"\\#:&%/@?=+")
    text = "".join(random_source.choices(random_source.choice(alphabets), k=length))
    return f"hf_{text.strip()}xyzzyx12"


SPELLINGS = {
    "plain": str,
    "JSON": lambda s: json.dumps(s)[1:-1],
    "JSON in Unicode": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "Python": lambda s: repr(s)[1:-1],
    "HTML": html.escape,
    "address": lambda s: quote(s, safe=""),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
}


@pytest.mark.parametrize("seed", range(60))
def test_a_secret_is_masked_in_any_spelling(seed):
    secret = random_secret(random.Random(seed))
    remember({"x": [{"api_key": secret}]})
    for name, spell in SPELLINGS.items():
        assert mask_text(f"a: {spell(secret)};") == f"a: {NOT_PUBLISHED};", name


def spell_in_yaml(secret: str, random_source: random.Random) -> str:
    """A scalar of YAML, of any style."""
    escaped = "".join(
        f"\\x{ord(c):02x}" if random_source.random() < 0.3 and ord(c) < 256 else json.dumps(c)[1:-1] for c in secret
    )
    quoted, single = f'"{escaped}"', "'{}'".format(secret.replace("'", "''"))
    styles = [quoted, single, f"|-\n    {secret}", f">-\n    {secret}", f"&anchor {quoted}", f"!!str {single}"]
    styles += [f"\n    {quoted}", f"{quoted}  # {secret}", f"{single}   #{secret}"]
    half = random_source.randrange(1, len(secret) - 1)
    if secret[half - 1] != " " and secret[half] != " ":
        styles.append(f"{json.dumps(secret[:half])[:-1]}\\\n      {json.dumps(secret[half:])[1:]}")  # over two lines
    if re.fullmatch(r"\w+", secret):
        styles.append(secret)
    return random_source.choice(styles)


@pytest.mark.parametrize("seed", range(150))
def test_a_recipe_is_published_without_its_secrets(seed, tmp_path):
    random_source = random.Random(seed)
    secret, other = random_secret(random_source), random_secret(random_source)
    key = random_source.choice(["hub_token", "'hub_token'", '"hub\\x5ftoken"', "hub_token  ", "? hub_token\n"])
    texts = [
        f"{key}: {spell_in_yaml(secret, random_source)}\n",
        f"model_init_kwargs:\n    {random_source.choice(['token', 'api-key'])}: {json.dumps(secret)}\n",
        f"env: {{WANDB_API_KEY: {json.dumps(other)}, A: 1}}\n",
        f"# HF_TOKEN={secret} accelerate launch\n",
        f"learning_rate: 1.0e-3   # with {secret}\n",
        'prompt_template: "{problem} =\\n"\n',
        f"run_name: {json.dumps('name ' + secret)}\n",
    ]
    random_source.shuffle(texts)
    path = tmp_path / "recipe.yaml"
    path.write_text("".join(texts), encoding="utf-8")
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert given["hub_token"] == secret
    remember(given)
    flag = random_source.choice([["--hub-token", secret], [f"--hub_token={secret}"], ["--run_name", f"of {secret}"]])
    save_recipe(["--config", str(path), *flag], str(tmp_path / "out"))
    published = (tmp_path / "out" / "recipe.yaml").read_text(encoding="utf-8")
    for spell in SPELLINGS.values():
        assert spell(secret) not in published and spell(other) not in published
    # Everything else is as it was.
    expected = given | {"hub_token": NOT_PUBLISHED, "run_name": f"name {NOT_PUBLISHED}"}
    expected["model_init_kwargs"] = dict.fromkeys(given["model_init_kwargs"], NOT_PUBLISHED)
    expected["env"] = {"WANDB_API_KEY": NOT_PUBLISHED, "A": 1}
    assert yaml.safe_load(published) == expected


@pytest.mark.parametrize("given", [b"a: 1\r\nb: 'x'  # y\r\n", b"a: 1", b"", "\ufeffa: ä\n".encode()])
def test_a_recipe_without_secrets_is_published_byte_by_byte(tmp_path, given):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(given)
    save_recipe(["--config", str(path)], str(tmp_path / "out"))
    _, _, published = (tmp_path / "out" / "recipe.yaml").read_bytes().partition(b"\n")
    assert published == given.removeprefix(b"\xef\xbb\xbf")  # a mark of the file's beginning, which it no longer is


def test_a_secret_of_the_recipe_that_the_command_line_overrides(tmp_path):
    @dataclass
    class Arguments:
        hub_token: str | None = None
        run_name: str | None = None

    path = tmp_path / "recipe.yaml"
    path.write_text("hub_token: first-token\nrun_name: of first-token  # not second-token\n")
    words = ["--config", str(path), "--hub_token", "second-token"]
    assert RecipeParser(Arguments).parse(words)[0].hub_token == "second-token"
    save_recipe(words, str(tmp_path / "out"))
    published = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "first-token" not in published and "second-token" not in published


def test_json_in_a_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text('model_init_kwargs: \'{"token": "ab", "a": 1}\'\nseed: 1\n')
    save_recipe(["--config", str(path)], str(tmp_path / "out"))
    published = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert published == {"model_init_kwargs": '{"token": "not-published", "a": 1}', "seed": 1}


# From end to end


SECRETS = {
    "flag": "hf_f1agF1agF1agF1ag",
    "recipe": "sk-r3cipeR3cipe",
    "nested": "n3sted\"'\\ß&secret",
    "address": "addr3ss$pass",
    "env": "3nvironmentKey",
    "process": "pr0cessTokenValue",
    "login": "hf_l0ginL0ginL0gin",
}


def tells(prompts, completion_ids, log_extra=None, **kwargs) -> list[float]:
    """A reward that logs more than it should."""
    log_extra("judge", [f"asked with {SECRETS['process']}"] * len(prompts))
    return starts_low(completion_ids)


def contents(path: Path) -> list[bytes]:
    """Everything that can be read in a file."""
    found = [path.read_bytes()]
    if path.suffix == ".parquet":
        found.append(repr(pd.read_parquet(path).to_dict()).encode())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    if path.name == "training_args.bin":
        found.append(repr(vars(torch.load(path, weights_only=False))).encode())
    return found


def files_with_secrets(directory: Path) -> list[tuple[str, str]]:
    spellings = {name: {spell(secret).encode() for spell in SPELLINGS.values()} for name, secret in SECRETS.items()}
    return [
        (str(path.relative_to(directory)), name)
        for path in directory.rglob("*")
        if path.is_file()
        for name, spelled in spellings.items()
        if any(text in content for content in contents(path) for text in spelled)
    ]


def test_nothing_secret_in_any_file_of_an_output_directory(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("MY_SERVICE_TOKEN", SECRETS["process"])
    monkeypatch.setenv("WANDB_API_KEY", "")  # taken back at the end: the recipe sets it
    monkeypatch.setattr(secret_values, "get_token", lambda: SECRETS["login"])
    out, data = tmp_path / "out", tmp_path / "data"
    data.mkdir()
    write_problems(data / "problems.jsonl")
    (data / "README.md").write_text(f"# Sums\n\nRead with {SECRETS['process']}.\n")
    fields = {
        "model_name_or_path": save_model(tmp_path / "model"),
        "dataset_name": str(data),
        "output_dir": str(out),
        "reward_funcs": ["tests.run.test_secret_values.tells"],
        "env": {"WANDB_API_KEY": SECRETS["env"]},
        "model_init_kwargs": {"token": SECRETS["nested"]},
        "chat_template_kwargs": {"api_key": SECRETS["recipe"], "say": f"with {SECRETS['login']}"},
        "vllm_server_base_url": f"http://me:{SECRETS['address']}@localhost:8000",
        "run_name": f"run of {SECRETS['flag']}",
        "report_to": "tensorboard",
        "log_completions": True,
        "max_steps": 2,
    }
    recipe = Path(write_recipe(tmp_path / "recipe.yaml", fields))
    recipe.write_text(recipe.read_text() + f"# MY_SERVICE_TOKEN={SECRETS['process']} and {SECRETS['login']}\n")
    monkeypatch.setattr(sys, "argv", ["train", "--config", str(recipe), "--hub-token", SECRETS["flag"]])
    train_module.main()
    assert sys.argv == ["train", "--config", str(recipe), "--hub-token", NOT_PUBLISHED]  # trackers publish it
    asked = {"model": out, "data": data, "k": 1, "num_problems": 1, "top_p": 1.0, "max_completion_length": 4}
    asked["chat_template_kwargs"] = json.dumps({"key": SECRETS["recipe"]})
    evaluate_module.main([word for name, value in asked.items() for word in (f"--{name}", str(value))])
    model_card.main(["--run", str(out)])
    report.main([str(out)])

    names = {str(path.relative_to(out)).split("/")[-1] for path in out.rglob("*") if path.is_file()}
    assert {"recipe.yaml", "README.md", "settings.json", "run.json", "metrics.jsonl", "training_args.bin"} <= names
    assert {"report.html", "data_card.md", "dapo_trl.json", "trainer_state.json"} <= names
    assert any("tfevents" in name for name in names) and any(name.endswith(".parquet") for name in names)
    assert any(name.startswith("summary-") for name in names) and any(
        name.startswith("completions-") for name in names
    )
    assert files_with_secrets(out) == []
    printed = "".join(capsys.readouterr()) + caplog.text
    assert not [name for name, secret in SECRETS.items() if secret in printed]
    # Masked, not left away.
    assert yaml.safe_load((out / "recipe.yaml").read_text())["env"] == {"WANDB_API_KEY": NOT_PUBLISHED}
    table = pd.read_parquet(next((out / "completions").glob("*.parquet")))
    assert set(table["judge"].dropna()) == {f"asked with {NOT_PUBLISHED}"}


def test_the_trainer_keeps_what_it_needs(tmp_path):
    from ..helpers import build

    trainer = build(train_module.DAPOTrainer, {"hub_token": "hf_abcdefgh", "output_dir": str(tmp_path)})
    trainer.save_model(str(tmp_path / "model"))
    assert trainer.args.hub_token == "hf_abcdefgh"
    saved = torch.load(tmp_path / "model" / "training_args.bin", weights_only=False)
    assert (saved.hub_token, saved.num_generations) == (NOT_PUBLISHED, trainer.args.num_generations)


# Messages


def test_an_error_says_nothing_secret(capsys):
    remember({"hub_token": "hf_abcdefgh"})
    with pytest.raises(SystemExit), errors_in_one_line():
        raise ValueError("hub_token='hf_abcdefgh' is refused")
    assert capsys.readouterr().err == "error: hub_token='not-published' is refused\n"


def test_an_error_of_any_kind_and_its_causes():
    remember({"hub_token": "hf_abcdefgh"})
    with pytest.raises(RuntimeError, match="of not-published") as caught, masking_errors():
        try:
            raise KeyError("hf_abcdefgh")
        except KeyError as error:
            error.add_note("hf_abcdefgh again")
            raise RuntimeError("of hf_abcdefgh", ConnectionError("to hf_abcdefgh")) from error
    assert str(caught.value.args[1]) == "to not-published"
    assert caught.value.__cause__.args == (NOT_PUBLISHED,)
    assert caught.value.__cause__.__notes__ == ["not-published again"]


@pytest.fixture
def masked_logs(monkeypatch):
    make_record = logging.getLogRecordFactory()
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    remember({"hub_token": "hf_abcdefgh"})
    mask_logs.cache_clear()  # as in a new process
    mask_logs()
    yield
    logging.setLogRecordFactory(make_record)


def test_logs_say_nothing_secret(masked_logs, caplog):
    logging.getLogger("any").warning("%s to %s: %d", "hf_abcdefgh", "http://a:b@host", 3)
    assert caplog.messages == ["not-published to http://not-published@host: 3"]


def test_tracebacks_in_logs_say_nothing_secret(masked_logs, caplog):
    try:
        raise KeyError("hf_abcdefgh")
    except KeyError:
        logging.getLogger("any").exception("It failed")
    assert "KeyError: 'not-published'" in caplog.text and "hf_abcdefgh" not in caplog.text.replace(
        '("hf_abcdefgh")', ""
    )


def test_a_message_that_does_not_fit_its_arguments_stops_nothing(masked_logs, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.Logger("a library's")  # without pytest's handlers, which raise
    logger.addHandler(logging.StreamHandler())
    logger.warning("%d items", "no")


def test_warnings_say_nothing_secret(masked_logs):
    text = warnings.formatwarning("of hf_abcdefgh", UserWarning, "absent.py", 1)
    assert text == "absent.py:1: UserWarning: of not-published\n"


def test_what_the_parser_reads_is_remembered(tmp_path):
    @dataclass
    class Arguments:
        rows: int = 1
        hub_token: str | None = None
        options: dict | str | None = None

        def __post_init__(self):
            raise ValueError(f"{self.hub_token} {self.options}")

    path = tmp_path / "recipe.yaml"
    path.write_text("options:\n  api_key: abcdefgh\n")
    with pytest.raises(ValueError, match="not-published .'api_key': 'not-published'"), masking_errors():
        RecipeParser(Arguments).parse_args_and_config(["--config", str(path), "--hub-token", "hf_abcdefgh"])


def test_trackers_get_nothing_secret(tmp_path):
    args = DAPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        model_init_kwargs={"token": "hf_abcdefgh"},
        vllm_server_base_url="http://me:pa55word@host",
    )
    for text in (json.dumps(args.to_dict(), default=str), args.to_json_string(), repr(args.to_sanitized_dict())):
        assert "hf_abcdefgh" not in text and "pa55word" not in text
    assert args.model_init_kwargs == {"token": "hf_abcdefgh"}


def test_what_is_logged_is_masked(tmp_path):
    remember({"hub_token": "hf_abcdefgh"})
    state = type("State", (), {"is_world_process_zero": True, "global_step": 1})
    args = type("Args", (), {"output_dir": str(tmp_path)})
    MetricsFileCallback(1).on_log(args, state, None, logs={"loss": 1.0, "judge": "by hf_abcdefgh"})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["judge"] == "by not-published"
