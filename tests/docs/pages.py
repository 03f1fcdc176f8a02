"""What is written in the README, the documentation and the recipes' index."""

import re
import shlex
from pathlib import Path


ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("recipes/**/*.md"),
        *ROOT.glob("benchmarks/**/*.md"),
    ]
)


def name(page: Path) -> str:
    """The path as in the repository."""
    return str(page.relative_to(ROOT))


def code_blocks(page: Path, *languages: str) -> list[str]:
    """Contents of the fenced blocks in these languages."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [content for language, content in blocks if language in languages]


def command_lines(page: Path) -> list[list[str]]:
    """
    Words of each line of shell code, and of each command in the text or a table.

    Lines that end in a backslash go on, and comments are left out.
    """
    lines = "".join(code_blocks(page, "bash", "shell")).replace("\\\n", " ").splitlines()
    lines += [
        code
        for code in inline_code(page)
        if code.startswith(("python -m ", "dapo-trl ", "make ", "accelerate launch "))
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def inline_code(page: Path) -> list[str]:
    """Everything between single backticks outside of fenced blocks."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def links(page: Path) -> list[str]:
    """Targets of all links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text())


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
