"""Copy what differs from the paper out of the docstrings into the pages: ``python docs/_tools/differs.py``.

The docstring of each strategy's module is the source; ``tests/test_pages.py`` compares the two.
"""

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
TITLE = "## What differs from the paper\n"
TARGET = re.compile(r"^_target_: ([\w.]+)\.\w+$", re.MULTILINE)


def main() -> None:
    """Rewrite the section of every page."""
    for conf in sorted((ROOT / "conf" / "strategy").glob("*.yaml")):
        page = ROOT / "docs" / "methods" / conf.name.replace(".yaml", ".md")
        [module] = TARGET.findall(conf.read_text(encoding="utf-8"))
        file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        before, _, rest = page.read_text(encoding="utf-8").partition(TITLE)
        after = rest[rest.index("\n## ") :]
        page.write_text(f"{before}{TITLE}\n{differs(file)}\n{after}", encoding="utf-8")


def differs(file: Path) -> str:
    """The paragraph of a module's docstring that names the deviations, as Markdown."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = docstring.partition("Differs from the paper:")[2].partition("\n\n")[0]
    text = re.sub(r":math:(`[^`]+`)", r"\1", " ".join(paragraph.split())).replace("``", "`").replace("\\", "")
    return textwrap.fill(text[:1].upper() + text[1:], 120, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main()
