"""The recipe beside the model, without secrets."""

import json
from dataclasses import dataclass

import pytest
import yaml

from dapo_trl.commands.recipe_parser import RecipeParser
from dapo_trl.hub.recipe import save_recipe, without_secrets
from dapo_trl.run import secret_values
from dapo_trl.run.secret_values import NOT_PUBLISHED, mask_text


SECRET = "hf_ab'\"\\#: äß&%12"
QUOTED, SINGLE = json.dumps(SECRET), "'{}'".format(SECRET.replace("'", "''"))
ESCAPED = '"{}"'.format("".join(f"\\x{ord(character):02x}" for character in SECRET))


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(secret_values, "_remembered", set())
    monkeypatch.setattr(secret_values, "get_token", lambda: None)


@pytest.fixture
def saved(tmp_path):
    """Saves the recipe of a run: what stands in it below the command line, byte by byte."""

    def save(content: bytes, *arguments: str) -> tuple[str, bytes]:
        (tmp_path / "given.yaml").write_bytes(content)
        save_recipe(["--config", str(tmp_path / "given.yaml"), *arguments], str(tmp_path / "out"))
        command, _, recipe = (tmp_path / "out" / "recipe.yaml").read_bytes().partition(b"\n")
        return command.decode(), recipe

    return save


@pytest.mark.parametrize(
    "content",
    [
        *(b"a: 1\r\nb: 'x'  # y\r\n", b"a: 1", b"", "\ufeffa: ä\n".encode(), b"eos_token: <eos>"),
        b"token_normalization: step  # each token counts: all of them",
    ],
)
def test_a_recipe_without_secrets_is_published_byte_by_byte(saved, content):
    command, recipe = saved(content, "--seed", "1")
    assert recipe == content.removeprefix(b"\xef\xbb\xbf")  # a mark of the file's beginning, which it no longer is
    assert command == "# accelerate launch -m dapo_trl.train --config recipe.yaml --seed 1"


@pytest.mark.parametrize(
    "value", [QUOTED, SINGLE, ESCAPED, f"|-\n  {SECRET}", f">-\n  {SECRET}", f"&x !!str {SINGLE}"]
)
@pytest.mark.parametrize("key", ["hub_token", '"hub\\x5ftoken"', "hub_token  ", "? hub_token\n"])
@pytest.mark.parametrize("flag", [["--hub-token", SECRET], [f"--hub_token={SECRET}"], ["--run_name", f"of {SECRET}"]])
def test_a_recipe_is_published_without_its_secrets(saved, key, value, flag):
    other = f"x{SECRET}y"
    text = (
        f"learning_rate: 1.0e-3   # with {SECRET}\nrun_name: {json.dumps(f'of {SECRET}')}\n{key}: {value}\n"
        f"env: {{WANDB_API_KEY: {json.dumps(other)}, A: 1}}\nprompt_template: '{{problem}} ä'\n"
        f"""options: '{{"api-key": "ab", "a": 1}}'\n# HF_TOKEN={SECRET} accelerate launch\n"""
    )
    given = yaml.safe_load(text)
    assert given["hub_token"] == SECRET
    command, recipe = saved(text.encode(), *flag)
    published = command + recipe.decode()
    assert mask_text(published) == published and SECRET[:8] not in published
    assert yaml.safe_load(recipe) == given | {
        "hub_token": NOT_PUBLISHED,
        "run_name": f"of {NOT_PUBLISHED}",
        "env": {"WANDB_API_KEY": NOT_PUBLISHED, "A": 1},
        "options": '{"api-key": "not-published", "a": 1}',
    }


@pytest.mark.parametrize(
    "text",
    [
        *(
            "# hub_token: 'hf_abc'",
            "# --hub_token hf_abc --seed 1",
            "# --hub_token=hf_abc",
            "# HF_TOKEN='hf_abc d' run",
        ),
        *("# hub_token: |\n#   hf_abc", "# mine is hf_abcdefghijklmnopqrst.", "hub_token: hf_abc\nhub_token: null"),
        *("x: &name hf_abc\nhub_token: *name", 'env:\n  - {KEY: "hf_\\x61bc"}'),
    ],
)
def test_whatever_may_be_a_secret_is_left_out(text):
    published = without_secrets(f"seed: 1  # as in the paper\n{text}\n")
    assert "hf_abc" not in published and "hf_\\x61bc" not in published
    assert yaml.safe_load(published)["seed"] == 1


def test_a_secret_of_the_recipe_that_the_command_line_overrides(saved, tmp_path):
    @dataclass
    class Arguments:
        hub_token: str | None = None
        run_name: str | None = None

    content, flag = b"hub_token: first-token\nrun_name: of first-token  # not second-token\n", "--hub_token"
    saved(content)
    RecipeParser(Arguments).parse(["--config", str(tmp_path / "given.yaml"), flag, "second-token"])
    published = "".join(map(str, saved(content, flag, "second-token")))
    assert "first-token" not in published and "second-token" not in published


def test_a_run_without_a_recipe_file(tmp_path):
    save_recipe(["--model_name_or_path", "me/model", "--prompt_template", "{problem} ="], str(tmp_path / "out"))
    command = "# accelerate launch -m dapo_trl.train --model_name_or_path me/model --prompt_template '{problem} ='\n"
    assert (tmp_path / "out" / "recipe.yaml").read_text() == command
