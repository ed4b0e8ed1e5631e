"""Architectures and decisions: the values that search spaces and strategies exchange."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_nas.errors import InvalidArchitecture, shown
from lightning_nas.files import parse_json, read_json, write_json

FORMAT = 1
_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


@dataclass(frozen=True, slots=True)
class Decision:
    """Decision of a search space: a name and its options.

    Attributes:
        name: name of the decision, unique in its space.
        options: names of the options.
        node: node of the network that the decision is about, in spaces whose decisions refer to nodes.
        refers: earlier nodes: one for each option if an option is the choice of a node, see :attr:`is_index`; a single
            one if the decision is about that node, such as whether it is connected.

    Example:
        >>> Decision("layer_01", ("k3_e1", "skip")).options
        ('k3_e1', 'skip')
    """

    name: str
    options: tuple[str, ...]
    node: str | None = None
    refers: tuple[str, ...] = ()

    @property
    def is_index(self) -> bool:
        """Whether each option is an earlier node.

        >>> Decision("c_from", ("a", "b"), "c", refers=("a", "b")).is_index
        True
        >>> Decision("c_skip_a", ("no", "yes"), "c", refers=("a",)).is_index
        False
        """
        return len(self.refers) > 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """Frozen, hashable choice of one option for each decision of a search space.

    It holds only the name of its space; ``SearchSpace.validate`` checks that the choices are legal there.

    Attributes:
        space: name of the search space.
        choices: (decision, option) pairs, in the space's order.

    Example:
        >>> a = Architecture("toy", (("layer_1", "conv"), ("layer_2", "skip")))
        >>> a["layer_2"]
        'skip'
        >>> Architecture.from_json(a.to_json()) == a
        True
    """

    space: str
    choices: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, space: str, choices: Mapping[str, str]) -> Architecture:
        """Make an architecture from a mapping of decision names to options, in the mapping's order."""
        return cls(space, tuple(choices.items()))

    def __getitem__(self, decision: str) -> str:
        return dict(self.choices)[decision]

    def __str__(self) -> str:
        return " ".join(self.options)

    @property
    def options(self) -> tuple[str, ...]:
        """Options without the names of the decisions, in the space's order."""
        return tuple(option for _, option in self.choices)

    @property
    def key(self) -> str:
        """Short stable identifier: 16 hexadecimal digits of the SHA-256 of the canonical text."""
        return hashlib.sha256(_text([self.space, self.choices]).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Make the content of an architecture file."""
        return {"format": FORMAT, "space": self.space, "choices": dict(self.choices)}

    @classmethod
    def from_dict(cls, content: Any, *, where: str = "architecture") -> Architecture:
        """Read the content of an architecture file, checked by its schema.

        The entry "network", the sizes of a network of this architecture, is left to
        :mod:`lightning_nas.spaces.description`.

        Args:
            content: parsed JSON.
            where: beginning of error messages, e.g. the path.

        Raises:
            InvalidArchitecture: a key is missing or unknown, or a value has the wrong type.
        """
        if not isinstance(content, dict) or content.keys() - {"network"} != {"format", "space", "choices"}:
            came = sorted(content) if isinstance(content, dict) else type(content).__name__
            raise InvalidArchitecture(f"{where}: expected the keys format, space, choices; got {shown(came)}")
        version, space, choices = content["format"], content["space"], content["choices"]
        if type(version) is not int or version != FORMAT:
            raise InvalidArchitecture(f"{where}: format {shown(version)}; this version reads format {FORMAT}")
        if not isinstance(space, str) or not isinstance(choices, dict):
            raise InvalidArchitecture(f"{where}: 'space' must be text and 'choices' an object")
        for name, option in choices.items():
            if not isinstance(option, str):
                raise InvalidArchitecture(f"{where}: the choice of {shown(name)} must be text, got {shown(option)}")
        return cls.of(space, choices)

    def to_json(self) -> str:
        """Write versioned JSON, the form that every command accepts."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read JSON: the inverse of :meth:`to_json`.

        Raises:
            InvalidArchitecture: the text is not strict JSON, or not an architecture.
        """
        return cls.from_dict(parse_json(text, where="architecture", error=InvalidArchitecture))

    def save(self, path: str | Path, network: Mapping[str, Any] | None = None) -> None:
        """Write an architecture file, atomically.

        Args:
            path: of the file.
            network: the sizes of the network, for :func:`~lightning_nas.spaces.description.network_of`.
        """
        write_json(path, self.to_dict() | ({} if network is None else {"network": network}))

    @classmethod
    def load(cls, path: str | Path) -> Architecture:
        """Read an architecture file.

        Raises:
            InvalidArchitecture: the file is missing, too large, not strict JSON, or not an architecture.
        """
        return cls.from_dict(read_json(path, error=InvalidArchitecture, limit=2**20), where=shown(Path(path)))
