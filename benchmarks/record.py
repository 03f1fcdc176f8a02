"""Results of a benchmark as JSON in `benchmarks/results`, from which `benchmarks.report` makes the tables."""

import functools
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cpuinfo
import torch


RESULTS = Path(__file__).with_name("results")
PACKAGES = ("dapo_trl", "trl", "transformers", "torch")


def record(
    name: str,
    about: str,
    settings: dict[str, str],
    measured: dict[str, str],
    rows: list[dict[str, Any]],
    results: Path = RESULTS,
) -> None:
    """
    Writes rows to `<results>/<name>.json`, in place of rows of the same settings; other rows stay.

    Args:
        name (`str`): file name without ending; the tables are sorted by it.
        about (`str`): Markdown above the table: a heading (`## ...`), what is compared and how.
        settings, measured (`dict[str, str]`):
            Columns of the table in order, each with its format specification, such as `.2f`: what tells rows apart,
            and what was found. Other entries of the rows are kept in the file only.
        rows (`list[dict]`): one for each measurement, with a `ratio`, and the `command` that makes it.
        results (`Path`): directory.

    Raises:
        ValueError: if a row has no `command`, no `ratio`, or lacks a column.
    """
    for row in rows:
        missing = ({"command", "ratio"} | settings.keys() | measured.keys()) - row.keys()
        if missing:
            raise ValueError(f"A row of {name} has no {sorted(missing)}: {row}. Every row needs them.")

    def setting(row: dict[str, Any]) -> tuple:
        return tuple(row[name] for name in settings)

    path = results / f"{name}.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    by_setting = {setting(row): row for row in earlier}
    by_setting |= {setting(row): row | {"versions": versions(), "machine": machine()} for row in rows}
    content = {"about": about, "formats": settings | measured, "rows": list(by_setting.values())}
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions that decide about the figures."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


@functools.cache
def machine() -> dict[str, Any]:
    """Processor, cores, threads of torch."""
    return {
        "processor": cpuinfo.get_cpu_info().get("brand_raw", platform.machine()),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def show(formats: dict[str, str], rows: list[dict[str, Any]]) -> None:
    """Prints the columns of the table, a line for each row."""
    for row in rows:
        print("  ".join(f"{name}: {cell(row[name], spec)}" for name, spec in formats.items()), flush=True)


def cell(value: Any, spec: str) -> str:
    """A value in its format; empty where there is none."""
    return "" if value is None else format(value, spec)
