"""`settings.json` in the output directory: every setting of a run, for whoever wants to know later."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from .atomic_write import write_json
from .secret_values import remember


SETTINGS_FILE = "settings.json"


def write_settings(output_dir: str | Path, *parts: Any) -> None:
    """Writes the fields of dataclasses and their defaults, without secrets, at any depth."""
    remember(*parts)
    content: dict[str, dict[str, Any]] = {"settings": {}, "defaults": {}}
    for part in parts:
        settings = part.to_dict() if hasattr(part, "to_dict") else dataclasses.asdict(part)
        content["settings"] |= settings
        content["defaults"] |= {field.name: _default(field) for field in dataclasses.fields(part)}
    path = Path(output_dir, SETTINGS_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content, default=str)


def read_settings(output_dir: str | Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Settings and defaults by name; None without such a file, ValueError if it is damaged."""
    path = Path(output_dir, SETTINGS_FILE)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["settings"], content["defaults"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}). Remove it: the settings of this run are then unknown."
        ) from error


def _default(field: dataclasses.Field) -> Any:
    """None for a field that must be given."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None
