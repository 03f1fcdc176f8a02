"""The recipes of the demo are read strictly, as the training command reads them."""

import pytest

from dapo_trl.train import make_parser


RECIPES = {
    "recipes/Tiny/arithmetic.yaml": (32, 8, 4),
    "recipes/SmolLM2-135M-Instruct/gsm8k_lora_cpu.yaml": (2, 16, 2),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_is_read_strictly(recipe, tmp_path, request):
    path = str(request.config.rootpath / recipe)
    _, args, _ = make_parser().parse_args_and_config(["--config", path, "--output_dir", str(tmp_path)])
    assert (args.prompts_per_rollout, args.num_generations, args.updates_per_rollout) == RECIPES[recipe]
    assert args.max_steps % args.updates_per_rollout == 0
    assert args.max_steps % args.save_steps == 0
