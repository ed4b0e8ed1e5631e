"""``lightning-nas explain GROUP=NAME``: what one option of the configuration is, and what can be set on it.

With more overrides, or with ``search_space.model._target_=...``, what a search can change in a network of one's own.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_nas.cli import presets
from lightning_nas.cli.arguments import asks_for_help
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.option_table import WIDTH, Row, class_of, options, shown_value, table
from lightning_nas.errors import ConfigError, shown

if TYPE_CHECKING:
    from lightning_nas.spaces.base import WeightSharingSpace

_OWN = "search_space=from_model"
_USAGE = """\
lightning-nas explain GROUP=NAME
lightning-nas explain search_space=from_model search_space.model._target_=torchvision.models.resnet18 [KEY=VALUE ...]

The first says what an option is and what can be set on it, e.g. strategy=fbnet.
GROUP is one of {groups}

The second says what a search can change in a network of your own: every decision, what is coupled with what, what stays
whole and why, and the sizes of the smallest, the middle and the largest network. It takes the overrides of a run;
latencies are measured, or come from latency_table=file latency_table.path=FILE or latency_table=measured."""
_DOCUMENTED = "strategy"  # the group whose options have a page in docs/methods
# of groups that are a part of others
_PLACES = {"rank_check.truth": "callbacks.rank_check.truth", "proxy": "child.proxy"}
_NEEDS = {"proxy": ["strategy=proxy"]}  # what composes a part that is not there by default
# facts about a space that a strategy may need, by the name that they have in both
_WANTED = {"mixes": "options that it mixes in its own way", "nests": "networks that are parts of a largest one"}
_REFUSED = {
    "mixes": "they mix options in their own way, and here these share weights",
    "nests": "they need networks that are parts of a largest one",
}


def main(arguments: Sequence[str]) -> None:
    """Print what there is to say of one option.

    Raises:
        ConfigError: there is no such group, or it has no such option.
    """
    if asks_for_help(arguments):
        print(_USAGE.format(groups=", ".join(presets.groups())))
        return
    if any(text.startswith(("search_space.", "search_space={")) or text == _OWN for text in arguments) and (
        len(arguments) > 1 or arguments[0] != _OWN
    ):
        from lightning_nas.cli.own_model import explained

        print(explained(arguments))
        return
    if len(arguments) != 1:
        raise ConfigError(
            f"explain takes one GROUP=NAME, got {len(arguments)}; e.g. lightning-nas explain strategy=fbnet"
        )
    group, name = asked_for(arguments[0])
    print("\n".join(_experiment(name) if group == "experiment" else _option(group, name)))


def asked_for(text: str) -> tuple[str, str]:
    """The group and the option of ``GROUP=NAME``.

    Raises:
        ConfigError: there is no such group, or it has no such option.
    """
    group, equals, name = text.partition("=")
    groups = presets.groups()
    if not equals:
        homes = presets.homes(text)
        advice = f"did you mean {' or '.join(homes)}?" if homes else "legal: GROUP=NAME such as strategy=fbnet"
        raise ConfigError(f"{shown(text)} names no group; {advice}")
    if group not in groups:
        raise ConfigError(f"{shown(group)}: there is no such group; {hint(group, groups)}")
    if name not in presets.names(group):
        raise ConfigError(f"{shown(text)}: the group {group} has no such option; {hint(name, presets.names(group))}")
    return group, name


# -- one option of a group ------------------------------------------------------------------------------------------


def _option(group: str, name: str) -> Iterator[str]:
    """The paragraphs on an option that is one object."""
    config = _composed(*_NEEDS.get(group, []), f"{group}={name}")
    node = _part(config, group, resolve=group == _DOCUMENTED)
    made = class_of(node)
    yield f"{group}={name}" + (f"  ({node['_target_']})" if made else "")
    yield ""
    for text in dict.fromkeys([presets.comment(group, name), _about(made)] if made else [presets.comment(group, name)]):
        if text:
            yield from [*textwrap.wrap(text, WIDTH), ""]
    experiment = paper_experiment(name) if group == _DOCUMENTED else None
    yield from _facts(group, name, made, experiment)
    paper = _part(_composed(f"experiment={experiment}"), group, resolve=True) if experiment else {}
    rows = list(options(node, paper))
    if rows:
        yield from ["", f"options, set as {_PLACES.get(group, group)}.KEY=VALUE"]
        yield from table(rows, Row("key", "default", "paper", "legal"))
    if made:
        yield from _company(group, node, made)


def _facts(group: str, name: str, made: type | None, experiment: str | None) -> Iterator[str]:
    """A line each: the paper, the page of the documentation, the commands."""
    module = sys.modules[made.__module__].__doc__ if made else None
    sources = [presets.comment(group, name), (made.__doc__ if made else None) or "", module or ""]
    found = next((numbers for numbers in map(presets.papers, sources) if numbers), [])
    for number in found[:1]:
        yield f"paper           https://arxiv.org/abs/{number}"
    if group == _DOCUMENTED and made and made.__module__.startswith("lightning_nas."):
        yield f"page            docs/methods/{name}.md"
    yield f"run it          lightning-nas run {' '.join([*_NEEDS.get(group, []), f'{group}={name}'])}"
    if experiment:
        yield f"as in the paper lightning-nas run experiment={experiment}"


def _about(made: type | None) -> str:
    """The first paragraph of a class's docstring, on one line."""
    paragraph = inspect.cleandoc(made.__doc__ or "").partition("\n\n")[0] if made else ""
    return " ".join(paragraph.split())


# -- what goes with it ----------------------------------------------------------------------------------------------


def _company(group: str, node: Mapping[str, Any], made: type) -> Iterator[str]:
    """The search spaces that a strategy runs on, or the strategies that run on a search space."""
    if group not in ("strategy", "search_space"):
        return
    from lightning_nas.spaces.base import WeightSharingSpace

    def suits(space: str) -> bool:
        found = class_of(presets.content("search_space", space))
        return found is not None and issubclass(found, WeightSharingSpace) and not _lacks(found, made)

    if group == "strategy":
        spaces = presets.names("search_space")
        if not _shares_weights(made):
            yield from _listed("search spaces that go with it: all, for it trains every architecture alone", [])
            return
        wanted = next((said for fact, said in _WANTED.items() if getattr(made, fact, False)), "a supernet")
        yield from _listed(f"search spaces that go with it (they have {wanted})", filter(suits, spaces))
        yield from _listed("search spaces that do not", (s for s in spaces if not suits(s)))
        return
    yield from _listed(f"data: {'text (dataset=text)' if 'bptt' in node else 'images'}", [])
    sharing = [s for s in presets.names("strategy") if _shares_weights(class_of(presets.content("strategy", s)))]
    others = [s for s in presets.names("strategy") if s not in sharing]
    if issubclass(made, WeightSharingSpace):
        lacking = {s: _lacks(made, class_of(presets.content("strategy", s))) for s in sharing}
        yield from _listed("strategies that go with it", (s for s in presets.names("strategy") if not lacking.get(s)))
        for fact, why in _REFUSED.items():
            if names := [s for s in sharing if lacking[s] == fact]:
                yield from _listed(f"strategies that do not ({why})", names)
    else:
        yield from _listed("strategies that go with it (they train every architecture alone)", others)
        yield from _listed("strategies that do not (they share weights, and it has no supernet)", sharing)


def _shares_weights(made: type | None) -> bool:
    from lightning_nas.strategies.multi_trial.base import TrialSearch

    return made is not None and not issubclass(made, TrialSearch)


def _lacks(space: type[WeightSharingSpace], made: type | None) -> str:
    """The fact about a space with a supernet that a strategy needs and the space lacks; "" for none."""
    from lightning_nas.strategies.base import SearchModule

    needs = made is not None and issubclass(made, SearchModule)
    return next((fact for fact in _WANTED if needs and getattr(made, fact) and not getattr(space, fact)), "")


def _listed(title: str, names: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield from ["", *textwrap.wrap(title, WIDTH)]
    yield from textwrap.wrap(", ".join(names), WIDTH, initial_indent="  ", subsequent_indent="  ")


# -- experiments ----------------------------------------------------------------------------------------------------


def paper_experiment(strategy: str) -> str | None:
    """The experiment with the settings of a strategy's paper: the one its YAML names first, else the first there is."""
    own = [name for name in presets.names("experiment") if chosen(name).get("strategy") == strategy]
    named = [word for word in re.findall(r"\w+", presets.comment("strategy", strategy)) if word in own]
    return next(iter([*named, *own]), None)


def chosen(experiment: str) -> dict[str, str]:
    """The options that an experiment chooses, by group."""
    entries = presets.content("experiment", experiment).get("defaults", [])
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    overridden = {key.removeprefix("override "): value for key, value in pairs if key.startswith("override ")}
    return {key.removeprefix("/"): value for key, value in overridden.items()}


def _experiment(name: str) -> Iterator[str]:
    """The paragraphs on an experiment: its options by group, and the keys it sets beside their values without it."""
    yield from [f"experiment={name}", "", *textwrap.wrap(presets.comment("experiment", name), WIDTH), ""]
    for number in presets.papers(presets.comment("experiment", name))[:1]:
        yield f"paper   https://arxiv.org/abs/{number}"
    yield f"run it  lightning-nas run experiment={name}"
    options = chosen(name)
    yield from _listed("it chooses", [f"{group}={option}" for group, option in options.items()])
    before = _composed(*(f"{group}={option}" for group, option in options.items() if "/" not in group))
    after = _composed(f"experiment={name}")
    content = {key: value for key, value in presets.content("experiment", name).items() if key != "defaults"}
    rows = [Row(key, _at(before, key), _at(after, key)) for key in _leaves(content)]
    if rows:
        yield from ["", "it sets"]
        yield from table(rows, Row("key", "without it", "with it"))


def _leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


# -- the configuration ----------------------------------------------------------------------------------------------


def _composed(*overrides: str) -> Any:
    """The configuration of a run under some overrides."""
    from lightning_nas.cli.configuration import configured

    return configured(["paths.output=''", *overrides])


def _part(config: Any, group: str, *, resolve: bool) -> Mapping[str, Any]:
    """The values of a group as they were composed; empty if the option sets nothing there."""
    from omegaconf import OmegaConf

    place = _PLACES.get(group, group.replace("/", "."))
    node = OmegaConf.select(config, place)
    content: Any = OmegaConf.to_container(node, resolve=resolve) if OmegaConf.is_config(node) else {}
    return content if isinstance(content, dict) else {}


def _at(config: Any, key: str) -> str:
    from omegaconf import OmegaConf

    value = OmegaConf.select(config, key, throw_on_resolution_failure=False)
    return shown_value(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)


if __name__ == "__main__":
    main(sys.argv[1:])
