"""Docstrings of the package as Markdown: roles become code, ``math`` becomes TeX."""

import re
import textwrap
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:py:)?(?:class|meth|func|mod|attr|data|exc|obj|ref):`~?(?:[^`<]*<)?([^`>]+)>?`")
MATH = re.compile(r":math:`([^`]+)`")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)  # Griffe reads only the plural as doctests
CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)  # Markdown reads [a][b] outside of it as a link
BLOCK = re.compile(r"^( *)\.\. math::[ ]*(.*)\n((?:\n|\1 +.*\n?)*)", re.MULTILINE)


class Roles(Extension):
    """Rewrite the docstring of every object before it is rendered."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Called by Griffe for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    r"""The text of a docstring without reStructuredText.

    >>> print(as_markdown("see :class:`~a.b.C`, :math:`x^2`"))
    see `C`, \(x^2\)
    """
    text = BLOCK.sub(_block, text + "\n").rstrip("\n")
    text = "".join(part if part.startswith("`") else part.replace("][", "]\\[") for part in CODE.split(text))
    text = EXAMPLE.sub("Examples:", text)
    text = MATH.sub(r"\\(\1\\)", text)
    return ROLE.sub(lambda match: f"`{match[1].rpartition('.')[2]}`", text)


def _block(match: re.Match[str]) -> str:
    indent, first, rest = match.groups()
    formula = "\n".join([first, textwrap.dedent(rest)]).strip()
    lines = ["\\[", *formula.splitlines(), "\\]"]
    return "\n" + "\n".join(indent + line for line in lines) + "\n\n"
