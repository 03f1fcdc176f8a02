"""
Print the command that starts the vLLM server of a recipe.

```bash
dapo-trl vllm-command --config recipe.yaml
```
"""

import sys

from .. import train


def main(argv: list[str] | None = None) -> None:
    """Takes the arguments of `dapo-trl train`."""
    arguments = sys.argv[1:] if argv is None else argv
    train.main([*arguments, "--print_vllm_command"], while_parsing=train.errors_in_one_line)
