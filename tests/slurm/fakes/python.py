"""
`python -m dapo_trl vllm-command`, without the seconds that the imports take: it prints the file
`printed` if there is one, or else a short command after a line of a library.
"""

import os
import sys
from urllib.parse import urlparse

from .log import directory


def run(arguments: list[str]) -> None:
    """Prints."""
    if arguments[:3] != ["-m", "dapo_trl", "vllm-command"] or "FAKE_NO_COMMAND" in os.environ:
        sys.exit("ValueError: no command")
    if (directory() / "printed").exists():
        sys.stdout.write((directory() / "printed").read_text())
        return
    url = urlparse(arguments[arguments.index("--vllm_server_base_url") + 1])
    sys.stdout.write("Some library says hello.\n")
    sys.stdout.write("VLLM_SERVER_DEV_MODE=1 vllm serve 'a model' \\\n    --data-parallel-size 4 \\\n")
    sys.stdout.write("""    --weight-transfer-config '{"backend": "nccl"}' \\\n""")
    sys.stdout.write(f"    --host {url.hostname} \\\n    --port {url.port}\n")


if __name__ == "__main__":
    run(sys.argv[1:])
