"""The table of a run's files in the guide."""

import re
from fnmatch import fnmatch
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def durable_files() -> dict[str, tuple[str, str]]:
    """How each file is written and when it is flushed, as docs/guides/resume.md says."""
    text = (PROJECT / "docs" / "guides" / "resume.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| (.*?) \|", text, re.MULTILINE)
    return {name: (how, when) for names, how, when in rows for name in re.findall(r"`([^`]+)`", names)}


def not_in_the_guide(folder: Path) -> set[str]:
    """Files in the folder of a run that the table does not have."""
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {name for name in files if not any(fnmatch(name, pattern) for pattern in durable_files())}
