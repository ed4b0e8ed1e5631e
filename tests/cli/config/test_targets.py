import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from lightning_nas.cli.config.check import check
from lightning_nas.cli.config.composing import HYDRAS_OWN
from lightning_nas.cli.config.models import MODEL
from lightning_nas.cli.config.targets import KINDS, WRITTEN, resolve
from lightning_nas.errors import ConfigError

ROOT = Path(__file__).parents[3]
ATTACKS = [
    # anything at all
    *("os.system", "builtins.eval", "builtins.exec", "eval", "sympy.sympify", "sympy.parsing.sympy_parser.parse_expr"),
    *(
        "torch.load",
        "torch.serialization.load",
        "subprocess.Popen",
        "runpy.run_path",
        "logging.os.system",
        "pickle.loads",
    ),
    *(
        "importlib.import_module",
        "hydra.utils.instantiate",
        "hydra.utils.get_method",
        "functools.partial",
        "numpy.load",
    ),
    *("yaml.unsafe_load", "stranger.Net", "stranger.run", "pathlib.Path.touch", "shutil.rmtree", "webbrowser.open"),
    # what an allowed module imports
    *("torch.optim.adam.torch.load", "torch.optim.optimizer.torch.load", "torch.optim.lr_scheduler.partial"),
    *("torch.optim.swa_utils.deepcopy", "torch.optim.adam.cast", "torch.optim.adam.Tensor", "torch.optim.os.system"),
    *(
        "pytorch_lightning.callbacks.model_checkpoint.shutil.rmtree",
        "pytorch_lightning.callbacks.timer.logging.os.system",
    ),
    *("pytorch_lightning.loggers.wandb.os.system", "pytorch_lightning.loggers.csv_logs.get_filesystem"),
    *("torchmetrics.utilities.imports.import_module", "torchmetrics.metric.deepcopy", "torchmetrics.Metric"),
    *(
        "lightning_nas.spaces.base.torch.load",
        "lightning_nas.spaces.base.hashlib.sha256",
        "lightning_nas.spaces.base.look_up",
    ),
    *(
        "lightning_nas.spaces.base.dataclass",
        "lightning_nas.strategies.base.pl.Trainer",
        "lightning_nas.latency.import_module",
    ),
    *("lightning_nas.spaces.base.ABC", "lightning_nas.tasks.base.Tensor", "torchmetrics.text.BERTScore"),
    # house modules that are not for configurations, functions, methods, private names
    *("lightning_nas.files.write_json", "lightning_nas.files.os.system", "lightning_nas.files.atomic"),
    *(
        "lightning_nas.run.main",
        "lightning_nas.cli.config.check.check",
        "lightning_nas.cli.config.targets.import_module",
    ),
    *("lightning_nas.strategies.base.SearchModule.load_from_checkpoint", "pytorch_lightning.Trainer.fit"),
    *("pytorch_lightning.callbacks.Callback.__init__", "pytorch_lightning.LightningModule.load_from_checkpoint"),
    *(
        "pytorch_lightning.strategies.launchers.multiprocessing._MultiProcessingLauncher",
        "torch.optim._functional.adam",
    ),
    *("torch.optim.adam.adam", "lightning_nas.latency.__main__.main", "lightning_nas.latency.__getattr__"),
    # classes of this library and of others that no run is made of: their constructors and methods write files
    *("lightning_nas.training.metrics.MetricsFile", "lightning_nas.training.csv_table.CSVTable"),
    *("lightning_nas.trials.ledger.Ledger", "lightning_nas.trials.job.ObjectsJob", "lightning_nas.report.page.Page"),
    *("lightning_nas.training.exact.ExactCheckpoint", "lightning_nas.latency.table.LatencyTable"),
    *("lightning_nas.trials.engines.base.Job", "lightning_nas.strategies.differentiable.staged.StagedSupernet"),
    *("pytorch_lightning.callbacks.LambdaCallback", "pytorch_lightning.callbacks.OnExceptionCheckpoint"),
    *("pytorch_lightning.plugins.TorchCheckpointIO", "torch.optim.swa_utils.AveragedModel"),
    *("torchvision.transforms.Lambda", "torchvision.transforms.v2.Lambda"),
    # names that only look allowed
    *(
        "torch.optimus.Adam",
        "torch.optim_.Adam",
        "lightning_nas2.spaces.X",
        "pytorch_lightning.Trainer2",
        "torch.optim",
    ),
    *(
        "torch.optim.",
        ".torch.optim.Adam",
        "torch..optim.Adam",
        "torch.optim.Adam\n",
        "torch.optim.Аdam",
        "torch.optim/Adam",
    ),
    *("", "os system", "torch.optim." + "A" * 300),
]


@pytest.mark.parametrize("target", [*ATTACKS, None, 3, ["os.system"], {"a": 1}, True])
def test_only_public_classes_of_allowed_places_may_be_targets(target: object, stranger: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(target, "strategy._target_")
    message = str(caught.value)
    assert message.startswith("strategy._target_: ")
    assert len(message) <= 400
    assert message.isprintable()
    assert message.isascii()
    assert not stranger.exists()


PLACES = [
    *(
        "search_space",
        "strategy.arch_optimizer",
        "task.extra.deep",
        "callbacks.evil",
        "logger.wandb",
        "paths.x",
        "evil",
    ),
    *("retrain.scheduler", "trainer.plugins", "resume.x"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "value",
    [
        "{_target_: stranger.run, command: touch CANARY}",
        "{_target_: os.system, _args_: [touch CANARY]}",
        "{a: [[{_target_: stranger.Net, _partial_: true}]]}",
        "[{_target_: torch.optim.Adam, x: {_target_: builtins.eval}}]",
        "{_target_: '${oc.decode:os.system}', command: touch CANARY}",
        "'${oc.create:{_target_:os.system,command:x}}'",
        "'\\${oc.create:{_target_:os.system,command:x}}'",
    ],
)
def test_no_place_in_the_configuration_lets_an_attack_through(
    composed: Callable[..., DictConfig], stranger: Path, place: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=r"_target_: .*refused|left after resolving"):
        check(composed(f"{place}={value}".replace("CANARY", str(stranger))))
    assert not stranger.exists()


def test_the_canary_sings_when_the_stranger_is_imported(stranger: Path) -> None:
    subprocess.run([sys.executable, "-c", "import stranger2"], cwd=stranger.parent, check=False, capture_output=True)
    assert stranger.exists()


def test_trusted_modules_are_whole_names_and_what_they_define_themselves(stranger: Path) -> None:
    for allowed in ("stranger.Net", "stranger._nets.build", "stranger._nets.Base"):
        assert callable(resolve(allowed, "k", ["stranger"]))
    for refused in (
        "stranger2.Net",
        "stranger.load",
        "stranger.run",
        "stranger.os.system",
        "stranger.Path",
        "os.system",
    ):
        with pytest.raises(ConfigError):
            resolve(refused, "k", ["stranger"])
    assert resolve("stranger._nets.Net", "k", ["stranger._nets"]) is not None
    with pytest.raises(ConfigError, match=r"trusted_modules=\[stranger\]"):
        resolve("stranger.Net", "k", ["stranger._nets"])
    assert resolve("math.sqrt", "k", ["math"]) is math.sqrt


@pytest.mark.parametrize("names", ["stranger", "['']", "['stranger.']", "[3]", "[null]", "{stranger: 1}", "['a b']"])
def test_trusted_modules_must_be_a_list_of_names(composed: Callable[..., DictConfig], names: str) -> None:
    with pytest.raises(ConfigError, match=r"^trusted_modules: got"):
        check(composed(f"trusted_modules={names}"))


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("torch.optim.Adm", "'Adam'"),
        ("lightning_nas.spaces.chains.fbnt.FBNetSpace", "'fbnet'"),
        ("lightning_nas.spaces.chains.fbnet.FBNetSpce", "'FBNetSpace'"),
        ("lightning_nas.startegies.base.SearchModule", "'strategies'"),
        ("pytorch_lightning.callbacks.ModelCheckpont", "'ModelCheckpoint'"),
    ],
)
def test_a_misspelt_target_gets_the_right_spelling(target: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        resolve(target, "k")


def test_the_allow_list_names_places_that_exist() -> None:
    for prefix in {*WRITTEN, *KINDS}:
        assert prefix.endswith(".Trainer") or importlib.util.find_spec(prefix), prefix


def test_every_target_of_the_shipped_groups_is_allowed() -> None:
    def targets(value: object) -> list[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        own = [value["_target_"]] if isinstance(value, dict) and "_target_" in value else []
        return own + [target for item in inner for target in targets(item)]

    found = {t: file for file in (ROOT / "conf").rglob("*.yaml") for t in targets(yaml.safe_load(file.read_text()))}
    assert len(found) > 5
    for target, file in found.items():
        key = f"{MODEL}._target_" if file.stem == "from_model" and target.startswith("torchvision.") else str(file)
        assert resolve(target, key, HYDRAS_OWN if file.parent.name == "hydra" else ())
