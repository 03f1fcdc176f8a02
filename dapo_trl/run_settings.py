"""`settings.json` in the output directory: every setting of a run, for whoever wants to know later."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any


SETTINGS_FILE = "settings.json"


def write_settings(output_dir: str | Path, *parts: Any) -> None:
    """
    Writes all settings of a run, by temporary file and rename.

    Args:
        output_dir (`str` or `Path`): the run's output directory; made if it does not exist.
        parts (dataclasses): settings, such as the training arguments, whose access tokens are left out.
    """
    settings: dict[str, Any] = {}
    for part in parts:
        settings |= part.to_dict() if hasattr(part, "to_dict") else asdict(part)
    path = Path(output_dir, SETTINGS_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(settings, indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_settings(output_dir: str | Path) -> dict[str, Any] | None:
    """
    Reads what [`write_settings`] wrote.

    Returns:
        `dict[str, Any]`, or None if there is no such file.

    Raises:
        ValueError: if the file is damaged.
    """
    path = Path(output_dir, SETTINGS_FILE)
    if not path.is_file():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON ({error}). Remove it, and the run's training_args.bin is read."
        ) from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a JSON object. Remove it, and the run's training_args.bin is read.")
    return settings
