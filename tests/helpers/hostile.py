"""Values and files that nobody should give: what the fuzz test and the campaign in ``benchmarks/fuzz.py`` draw from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 7, 2**31, 2**63, 10**40, -(10**40), 0.5, -0.0, 1e-320, 1e308, -1e308)
NUMBERS += (float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "",
    " ",
    "nan",
    "null",
    "0x1f",
    "1e999",
    "../up",
    "a/b",
    "x" * 5000,
    "[/b]",
    "é\u202e",
    "\t",
    "%s{0}",
    "-1",
    "--help",
)
INTERPOLATIONS = (
    "${seed}",
    "${strategy}",
    "${nothing.here}",
    "${oc.env:HOME}",
    "${oc.env:NOTHING}",
    "${oc.env:A_TOKEN}",
)
INTERPOLATIONS += (
    "${oc.create:{a: 1}}",
    "${oc.decode:'[1]'}",
    "${now:%Y}",
    "${hydra:job.name}",
    "${",
    "${a:${b:${c:1}}}",
)
TARGETS = (
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "torch.load",
    "torch.hub.load",
    "pickle.loads",
    "logging.config.dictConfig",
)
TARGETS += (
    "pytorch_lightning.Trainer",
    "torch.optim.SGD",
    "lightning_nas.files.replace_file",
    "lightning_nas",
    "",
    "..",
    3,
)
NESTED: tuple[Any, ...] = (
    [],
    [[]],
    [None],
    [0],
    [-1, 1e308],
    ["a", 2],
    list(range(300)),
    {},
    {"a": {"b": []}},
    {"_partial_": True},
)
NESTED += ({"_args_": ["touch canary"]}, [{"_target_": "os.system"}], {"": 1}, {"x": float("nan")})
VALUES: tuple[Any, ...] = (
    *(None, True, False),
    *NUMBERS,
    *TEXTS,
    *INTERPOLATIONS,
    *NESTED,
    *({"_target_": target, "command": "touch canary", "path": "canary"} for target in TARGETS),
)


def keys(content: Any, key: str = "") -> Iterator[str]:
    """The full key of every node below a mapping, the inner ones too.

    >>> list(keys({"a": {"b": 1}, "c": [2]}))
    ['a', 'a.b', 'c', 'c.0']
    """
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    for name, value in pairs:
        full = f"{key}.{name}" if key else str(name)
        yield full
        yield from keys(value, full)


def damaged(content: bytes, draw: Random) -> bytes:
    """The bytes with one thing wrong: cut, flipped, doubled, removed, inserted, or others in their place."""
    at, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    end = min(end, at + 200)
    junk = draw.choice(
        (b"\0" * 40, b"\xff\xfe", b'"', b"}", b"1e999", b"\n", b"9" * 400, b"[" * 3000, draw.randbytes(20))
    )
    ways = (
        lambda: content[:at],
        lambda: content[:at] + junk + content[at:],
        lambda: content[:at] + content[end:],
        lambda: content[:end] + content[at:],
        lambda: (
            content[:at] + bytes(byte ^ 1 << draw.randrange(8) for byte in content[at : at + 1]) + content[at + 1 :]
        ),
        lambda: draw.choice((b"", junk, content * 2, b"[]", b"{}", b"null")),
    )
    return draw.choice(ways)()


def other_json(text: str, draw: Random) -> str:
    """JSON with another value, or none, at one place."""
    content = json.loads(text)
    places = [(content, name) for name in _names(content)]
    for held, name in places:
        places += [(held[name], inner) for inner in _names(held[name])]
    if not places:
        return json.dumps(draw.choice(VALUES))
    held, name = draw.choice(places)
    if draw.random() < 0.2:
        del held[name]
    else:
        held[name] = draw.choice(VALUES)
    return json.dumps(content)


def _names(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
