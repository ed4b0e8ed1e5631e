"""The classes that a configuration may name: an allow-list by name, by place of definition and by kind.

A configuration file may come from a stranger, so a ``_target_`` is refused unless

* its name begins with a prefix in ``WRITTEN`` and has no private part. This check imports nothing, so that no file runs
  the code of a module that is not on the list.
* Every part of the name but the last is a module (``lightning_nas.spaces.base.torch.load`` is not legal), and the last
  is a *class* that is *defined* under a prefix in ``KINDS`` and is of a kind that a run is made of: a search space, a
  strategy, an optimiser ... A class that a module merely imports is not legal, nor one that a part of a run uses (the
  files of a run are such), nor is any function: there are many, and some write files.

The classes that other installed packages name in entry points are legal too (:mod:`lightning_nas.cli.plugins`).

At ``search_space.model`` alone, what ``torchvision.models`` offers for classification is legal, functions too; in the
``choices`` of ``search_space.rules`` alone, the layers of torch that take numbers
(:mod:`lightning_nas.cli.config.models`).

``trusted_modules`` adds prefixes, for functions and private names too. Dots count: ``mine`` allows ``mine.Net``, not
``mine2.Net``, and not what ``mine`` merely imports from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from lightning_nas.cli.config.models import MODEL, is_choice
from lightning_nas.cli.config.spelling import hint
from lightning_nas.cli.plugins import registered
from lightning_nas.errors import ConfigError, shown
from lightning_nas.spaces.builders import LAYERS, LIBRARY, is_builder, under

SPACE = ("lightning_nas.spaces.base.SearchSpace",)
STRATEGY = (
    "lightning_nas.strategies.base.SearchModule",
    "lightning_nas.strategies.multi_trial.base.TrialSearch",
)
TASK = ("lightning_nas.tasks.base.Task",)
DATA = ("pytorch_lightning.core.datamodule.LightningDataModule",)
ENGINE = ("lightning_nas.trials.engines.base.Engine",)
JUDGE = ("lightning_nas.trials.judge.Judge",)
CALLBACK = ("pytorch_lightning.callbacks.callback.Callback",)
LOGGER = ("pytorch_lightning.loggers.logger.Logger",)
OPTIMIZER = ("torch.optim.optimizer.Optimizer",)
SCHEDULER = ("torch.optim.lr_scheduler.LRScheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau")
TABLE = tuple(f"lightning_nas.latency.sources.{name}" for name in ("File", "Macs", "Measured", "NoTable", "Params"))
TABLE += ("lightning_nas.latency.published.HWNASBench", "lightning_nas.latency.published.Proxyless")
TRAINER = ("pytorch_lightning.trainer.trainer.Trainer",)
# what an entry of the configuration must make; of "callbacks" and "logger", what each of their entries must
PLACES: Mapping[str, tuple[str, ...]] = {
    "search_space": SPACE,
    "strategy": STRATEGY,
    "dataset": DATA,
    "task": TASK,
    "trainer": TRAINER,
    "callbacks": CALLBACK,
    "logger": LOGGER,
    "engine": ENGINE,
    "retrain.optimizer": OPTIMIZER,
    "retrain.scheduler": SCHEDULER,
}

_CALLBACKS = (
    *("DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary"),
    *("RichModelSummary", "RichProgressBar", "StochasticWeightAveraging", "TQDMProgressBar", "Timer"),
)
_LOGGERS = ("CometLogger", "CSVLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger")
# the places of definition, and the bases of the classes there that may be targets, or their names; () for all
# torchmetrics.text, .image and .multimodal stay out: their models are loaded or downloaded from where the caller says
KINDS: Mapping[str, tuple[str, ...]] = {
    "lightning_nas.callbacks": CALLBACK,
    "lightning_nas.data": DATA,
    "lightning_nas.latency": TABLE,
    "lightning_nas.spaces": SPACE,
    "lightning_nas.strategies": (
        *STRATEGY,
        "lightning_nas.strategies.controllers.controller.Controller",
        "lightning_nas.strategies.penalties.Penalty",
        "lightning_nas.strategies.surrogate.Surrogate",
    ),
    "lightning_nas.tasks": TASK,
    "lightning_nas.training.schedules": SCHEDULER,
    "lightning_nas.trials.child": JUDGE,
    "lightning_nas.trials.proxy_child": JUDGE,
    "lightning_nas.trials.training_losses": JUDGE,
    "lightning_nas.proxies": ("lightning_nas.proxies.base.Proxy",),
    "lightning_nas.trials.engines": ENGINE,
    "lightning_nas.truth": (
        "lightning_nas.truth.short_training.ShortTraining",
        "lightning_nas.truth.tabulated.TabulatedTruth",
    ),
    "torch.optim": (*OPTIMIZER, *SCHEDULER),
    "pytorch_lightning.trainer.trainer": TRAINER,
    "pytorch_lightning.callbacks": _CALLBACKS,
    "pytorch_lightning.loggers": _LOGGERS,
    "pytorch_lightning.plugins": (
        "lightning_fabric.plugins.precision.precision.Precision",
        "pytorch_lightning.plugins.layer_sync.LayerSync",
    ),
    "pytorch_lightning.strategies": ("pytorch_lightning.strategies.strategy.Strategy",),
    "lightning_fabric.plugins.environments": (
        "lightning_fabric.plugins.environments.cluster_environment.ClusterEnvironment",
    ),
    **{f"torchmetrics.{part}": () for part in ("aggregation", "classification", "regression", "segmentation")},
    "torchvision.transforms": ("torch.nn.modules.module.Module", "Compose", "ToTensor", "PILToTensor", "ToPILImage"),
}
_FUNCTIONS_CALLED = ("Lambda",)
_PARTS = sorted(place.split(".")[1] for place in KINDS if place.startswith("lightning_nas."))
WRITTEN = (
    *(place for place in KINDS if place.startswith("lightning_nas.")),
    "torch.optim",
    "pytorch_lightning.Trainer",
    *(f"pytorch_lightning.{part}" for part in ("callbacks", "loggers", "plugins", "strategies")),
    "torchmetrics",
    "torchvision.transforms",
)
_SUMMARY = (
    "the parts of a run in lightning_nas, torch.optim, pytorch_lightning, torchmetrics and torchvision.transforms"
)
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


def full_name(made: Any) -> str:
    """The dotted name of the place where a class or function is defined.

    >>> full_name(re.compile)
    're.compile'
    """
    return f"{getattr(made, '__module__', None)}.{getattr(made, '__qualname__', type(made).__name__)}"


def check_target(target: object, key: str, trusted: Sequence[str] = ()) -> str:
    """The target, if its name is on the allow-list. Nothing is imported.

    Args:
        target: the value of ``_target_``.
        key: the full key of the target, for the error.
        trusted: prefixes that the user allows.

    Raises:
        ConfigError: the target is not allowed.
    """
    if not isinstance(target, str) or len(target) > 200 or not _DOTTED.fullmatch(target):
        raise ConfigError(f"{key}: {shown(target)} is not the dotted name of a class")
    legal = (*WRITTEN, LIBRARY) if key == f"{MODEL}._target_" else WRITTEN
    allowed = (under(target, legal) and "._" not in target) or _is_layer(target, key)
    if not allowed and not under(target, trusted) and target not in registered():
        raise _refused(target, key, target)
    return target


def resolve(target: object, key: str, trusted: Sequence[str] = ()) -> Callable[..., Any]:
    """The class of an allowed target, or the function if it is trusted; imports its module.

    Args:
        target: the value of ``_target_``.
        key: the full key of the target, for the error.
        trusted: prefixes that the user allows. A full name may be defined anywhere.

    Raises:
        ConfigError: the target is not allowed, or does not exist.
    """
    name = check_target(target, key, trusted)
    found = _imported(name, key)
    defined = full_name(found)
    is_trusted = name in (*trusted, *registered()) or under(defined, trusted) or _is_layer(name, key)
    if not is_trusted and not (_is_network(found) if key == f"{MODEL}._target_" else _is_part(found, defined)):
        raise _refused(name, key, defined)
    if not callable(found):
        raise ConfigError(f"{key}: {name} is no class but a {type(found).__name__}")
    made: Callable[..., Any] = found
    return made


def _is_part(found: Any, defined: str) -> bool:
    """Whether a class is of a kind that a run is made of, and defined where these are."""
    kinds = next((legal for place, legal in KINDS.items() if under(defined, [place])), None)
    if kinds is None or not isinstance(found, type) or found.__name__ in _FUNCTIONS_CALLED:
        return False
    return not kinds or is_a(found, kinds)


def _is_layer(target: str, key: str) -> bool:
    """Whether a target is a layer of torch at a place where one may be named."""
    return is_choice(key.removesuffix("._target_")) and target in (f"torch.nn.{name}" for name in LAYERS)


def _is_network(found: Any) -> bool:
    return is_builder(found)


def is_a(made: type, kinds: Iterable[str]) -> bool:
    """Whether a class is one of the kinds or derives from one; a kind is a full name, or the name alone.

    >>> is_a(bool, ["builtins.int"]), is_a(bool, ["int"]), is_a(bool, ["str"])
    (True, True, False)
    """
    return any(full_name(base) in kinds or base.__name__ in kinds for base in made.__mro__)


def _imported(target: str, key: str) -> Any:
    """The object of a name; each part but the last must be a module, so that nothing a module imports is reached."""
    place, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(place), name)
    except ModuleNotFoundError as error:
        if not under(place, [str(error.name)]):
            raise ConfigError(f"{key}: {place} needs the package {error.name}, which is not installed") from None
        raise _missing(place, name, key) from None
    except AttributeError:
        raise _missing(place, name, key) from None
    if isinstance(found, ModuleType):
        raise ConfigError(f"{key}: {target} is a module, not a class")
    return found


def _missing(place: str, name: str, key: str) -> ConfigError:
    while place:
        try:
            module = import_module(place)
        except ModuleNotFoundError:
            place, _, name = place.rpartition(".")
            continue
        inside = {found.name for found in iter_modules(getattr(module, "__path__", ()))}
        if name in inside:
            return ConfigError(f"{key}: {place}.{name} is a module, not a class")
        if isinstance(getattr(module, name, None), type):
            return ConfigError(f"{key}: {place}.{name} is a class, not a module")
        own = {word for word in dir(module) if not isinstance(vars(module).get(word), ModuleType)}
        legal = [word for word in own | inside if not word.startswith("_")]
        return ConfigError(f"{key}: no {shown(name)} in {place}; {hint(name, legal)}")
    return ConfigError(f"{key}: no package {shown(name)} is installed")


def _refused(target: str, key: str, defined: str) -> ConfigError:
    what = shown(target) if defined == target else f"{shown(target)}, which is {shown(defined)},"
    top, part = [*defined.split("."), ""][:2]
    if key == f"{MODEL}._target_":
        raise ConfigError(
            f"{key}: {what} is refused: legal are networks for classification of {LIBRARY}; "
            f"add trusted_modules=[{top}] if you trust it"
        )
    if is_choice(key.removesuffix("._target_")):
        near = hint(target.removeprefix("torch.nn."), LAYERS)
        near = near if under(target, ["torch.nn"]) else f"add trusted_modules=[{top}] if you trust it"
        raise ConfigError(f"{key}: {what} is refused: legal are layers of torch.nn such as torch.nn.Conv2d; {near}")
    near = f"add trusted_modules=[{top}] if you trust it"
    if top == "lightning_nas":
        near = f"a run builds no {shown(defined.rpartition('.')[2])}" if part in _PARTS else hint(part, _PARTS)
    return ConfigError(f"{key}: {what} is refused: legal are public classes of {_SUMMARY}; {near}")
