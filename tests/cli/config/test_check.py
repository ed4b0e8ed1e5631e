import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from lightning_nas.cli.config.check import check
from lightning_nas.errors import ConfigError

ROOT = Path(__file__).parents[3]
Compose = Callable[..., DictConfig]

MISTAKES = [
    # misspelt
    ("sead=1", "sead: the configuration has no such key; did you mean 'seed'?"),
    ("strategy.weights_clp=1", "strategy.weights_clp: ", "did you mean 'weights_clip'?"),
    ("strategy.arch_optimizer.betsa=[0,0]", "strategy.arch_optimizer.betsa: ", "did you mean 'betas'?"),
    ("retrain.epoch=1", "retrain.epoch: ", "did you mean 'epochs'?"),
    ("resume.kep=1", "resume.kep: ", "did you mean 'keep'?"),
    ("trainer.max_epoch=1", "trainer.max_epoch: ", "did you mean 'max_epochs'?"),
    ("logger.wandb.offlne=true", "logger.wandb.offlne: ", "did you mean 'offline'?"),
    ("callbacks.stop.gamma=1", "callbacks.stop.gamma: ", "legal: "),
    ("weights_clip=1", "weights_clip: the configuration has no such key; did you mean 'strategy.weights_clip'?"),
    ("darts.weights_clip=1", "darts.weights_clip: ", "did you mean 'strategy.weights_clip'?"),
    ("optimizer=1", "optimizer: ", "did you mean 'retrain.optimizer'?"),
    ("spos={}", "spos: ", "legal: architecture, "),
    ("strategy._partal_=true", "strategy._partal_: "),
    # types
    ("seed=abc", "seed: got 'abc'; legal: int"),
    ("seed=1.5", "seed: got 1.5"),
    ("seed=true", "seed: got True"),
    ("seed={_target_: torch.optim.Adam}", "seed: got "),
    ("stages=search", "stages: got 'search'"),
    ("strategy=fbnet", "strategy: got 'fbnet'; legal: an entry with _target_"),
    ("strategy.alternate=sometimes", "strategy.alternate: got 'sometimes'; legal: 'batch', 'epoch'"),
    ("strategy.weights_clip=abc", "strategy.weights_clip: got 'abc'; legal: "),
    ("strategy.accumulate=1.5", "strategy.accumulate: got 1.5; legal: int"),
    ("strategy.accumulate=null", "strategy.accumulate: got None; legal: int"),
    ("strategy.weights_optimizer=sgd", "strategy.weights_optimizer: got 'sgd'; legal: an entry with _target_"),
    ("search_space.stem=[16,a]", "search_space.stem: got [16, 'a']; legal: list of 2 (int"),
    ("search_space.image_size=null", "search_space.image_size: got None; legal: "),
    ("trainer.devices=[a]", "trainer.devices: got ['a']; legal: "),
    ("trainer.precision=bf17", "trainer.precision: got 'bf17'; legal: ", "'bf16-mixed'"),
    ("retrain=3", "retrain: got 3; legal: mapping"),
    ("callbacks.x=3", "callbacks: got "),
    ("paths.data=3", "paths: got "),
    ("paths.x={_target_: torch.optim.Adam}", "paths: got "),
    ("resume.allow_inexact=maybe", "resume.allow_inexact: got 'maybe'; legal: bool"),
    # ranges
    ("seed=-1", "seed: got -1; legal: int >= 0 and <= 4294967295"),
    ("seed=4294967296", "seed: got 4294967296"),
    ("stages=[]", "stages: got []"),
    (
        "stages=[retrain,search]",
        "stages: got ['retrain', 'search']; legal: [search], [retrain], [search,retrain], [retrain,export], "
        "[search,retrain,export], [ranking]",
    ),
    ("stages=[ranking,search]", "stages: got ['ranking', 'search']; legal: "),
    ("stages=[search,search]", "stages: got "),
    ("stages=[search,test]", "stages: got "),
    ("retrain.epochs=0", "retrain.epochs: got 0; legal: int >= 1 and <= 100000"),
    ("retrain.drop_path=1", "retrain.drop_path: got 1; legal: float >= 0 and < 1"),
    ("retrain.label_smoothing=-0.1", "retrain.label_smoothing: got -0.1; legal: float >= 0 and < 1 or null"),
    ("retrain.auxiliary_weight=-1", "retrain.auxiliary_weight: got -1; legal: float >= 0"),
    ("retrain.cutout=1.5", "retrain.cutout: got 1.5; legal: int >= 0"),
    ("retrain.clip=.nan", "retrain.clip: got nan; legal: float > 0 or null"),
    ("resume.save_every=-5", "resume.save_every: got -5"),
    ("trainer.max_epochs=-5", "trainer.max_epochs: got -5; legal: int >= 1 and <= 100000 or null"),
    ("trainer.limit_train_batches=1.5", "trainer.limit_train_batches: got 1.5"),
    ("strategy.arch_optimizer.lr=-0.1", "strategy.arch_optimizer.lr: got -0.1; legal: float >= 0"),
    ("strategy.arch_optimizer.lr=.inf", "strategy.arch_optimizer.lr: got inf"),
    ("strategy.arch_optimizer.betas=[0.5,1]", "strategy.arch_optimizer.betas: got [0.5, 1]"),
    ("strategy.arch_optimizer.betas=[0.5]", "strategy.arch_optimizer.betas: got [0.5]; legal: list of 2 "),
    ("strategy.weights_scheduler.T_max=0", "strategy.weights_scheduler.T_max: got 0; legal: int >= 1 and <= 100000"),
    ("search_space.stem=[16]", "search_space.stem: got [16]; legal: list of 2 "),
    ("search_space.head=100000", "search_space.head: got 100000; legal: int >= 1 and <= 65536"),
    ("search_space.stages=[[16,1]]", "search_space.stages: got "),
    ("trainer.devices=0", "trainer.devices: got 0; legal: "),
    ("trainer.max_epochs=10000000000000", "trainer.max_epochs: got 10000000000000; legal: int >= 1 and <= 100000"),
    # what Lightning would refuse later, and what would spoil the search
    ("trainer.gradient_clip_val=1", "trainer.gradient_clip_val: got 1; ", "strategy.weights_clip="),
    ("trainer.gradient_clip_algorithm=norm", "trainer.gradient_clip_algorithm: ", "strategy.arch_clip="),
    ("trainer.accumulate_grad_batches=4", "trainer.accumulate_grad_batches: got 4; ", "strategy.accumulate="),
    ("trainer.precision=bf16-true", "trainer.precision: got 'bf16-true': ", "bf16-mixed or 16-mixed"),
    # not there
    ("dataset.image_size=???", "dataset.image_size must be given, e.g. dataset.image_size=..."),
    ("strategy.arch_optimizer.lr=???", "strategy.arch_optimizer.lr must be given"),
    ("task.x=${nowhere.y}", "task.x: ", "nowhere.y"),
    ("task.x=${oc.env:NO_SUCH_VARIABLE}", "task.x: ", "NO_SUCH_VARIABLE"),
    ("task.x=${task.x}", "task.x: ", "Recursive"),
    ("task.x=${nothing:1}", "task.x: ", "nothing"),
    ("callbacks.stop={_target_: pytorch_lightning.callbacks.Timer}", "callbacks.stop.monitor: "),
    ("callbacks.new={_target_: pytorch_lightning.callbacks.EarlyStopping}", "callbacks.new.monitor must be given"),
    # a class of another kind than its place is for
    ("callbacks.new={_target_: torch.optim.SGD}", "callbacks.new: 'torch.optim.sgd.SGD' is refused; ", "Callback"),
    ("logger.x={_target_: pytorch_lightning.callbacks.Timer}", "logger.x: ", "a class that derives from Logger"),
    ("strategy={_target_: lightning_nas.data.images.Digits}", "strategy: ", "SearchModule or TrialSearch"),
    ("retrain.optimizer._target_=torch.optim.lr_scheduler.StepLR", "retrain.optimizer: ", "Optimizer"),
    # Hydra's own words
    ("strategy._partial_=yes please", "strategy._partial_: got 'yes please'; legal: bool"),
    (
        "strategy._convert_=everything",
        "strategy._convert_: got 'everything'; legal: 'none', 'partial', 'all', 'object'",
    ),
    ("strategy._recursive_=0", "strategy._recursive_: got 0; legal: bool"),
    ("task._args_=[1]", "task._args_: "),
]


@pytest.mark.parametrize(
    ("change", "expected"), [(first, rest) for first, *rest in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_one_line_with_the_full_key(composed: Compose, change: str, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check(composed(change))
    message = str(caught.value)
    assert message.startswith(expected[0])
    assert all(part in message for part in expected)
    assert len(message) <= 400
    assert message.isprintable()
    assert caught.value.exit_code == 2


def test_a_whole_configuration_comes_back_plain_and_resolved(composed: Compose) -> None:
    config = composed("dataset.image_size=16")
    content = check(config)
    assert content == OmegaConf.to_container(config, resolve=True)
    assert content["search_space"]["image_size"] == 16


@pytest.mark.parametrize(
    "change",
    [
        *("seed=4294967295", "stages=[retrain]", "callbacks=null", "logger=null", "retrain.scheduler=null"),
        *(
            "trainer.precision=64-true",
            "trainer.accumulate_grad_batches=1",
            "trainer.devices=2",
            "trainer.devices=auto",
        ),
        *(
            "trainer.limit_train_batches=3",
            "trainer.limit_train_batches=0.5",
            "strategy.weights_clip=5",
            "ckpt_path=last",
        ),
        *("strategy.arch_optimizer.lr=1", "strategy.arch_optimizer.fused=null", "logger.wandb.tags=[a]"),
        *("task._convert_=all", "callbacks.timer={_target_: pytorch_lightning.callbacks.Timer}"),
        *(
            "latency_table.num_classes=3",
            "strategy.arch_scheduler=${strategy.weights_scheduler}",
            "trainer.strategy=ddp",
        ),
    ],
)
def test_legal_settings_pass(composed: Compose, change: str) -> None:
    check(composed(change))


@pytest.mark.parametrize("key", ["seed", "trusted_modules", "retrain", "trainer", "retrain.optimizer", "resume.keep"])
def test_every_key_of_the_schema_must_be_there(composed: Compose, key: str) -> None:
    config = composed()
    place, _, name = key.rpartition(".")
    del (config[place] if place else config)[name]
    with pytest.raises(ConfigError, match=rf"^{key} must be given, e.g. {key}=\.\.\.$"):
        check(config)


def test_null_by_interpolation_waits_for_the_data_set(composed: Compose) -> None:
    assert check(composed("dataset.image_size=null"))["search_space"]["image_size"] is None
    with pytest.raises(ConfigError, match=r"^search_space.image_size: got 'x'"):
        check(composed("dataset.image_size=x"))


def test_a_trusted_class_is_checked_by_its_own_constructor(composed: Compose, stranger: Path) -> None:
    config = composed("trusted_modules=[stranger]")
    config.task = {"_target_": "stranger.Net", "rate": 0.5, "width": 3}
    check(config)
    config.task = {"_target_": "stranger.Net", "widht": 3}
    with pytest.raises(ConfigError, match=r"^task.widht: stranger._nets.Net has no such key; did you mean 'width'"):
        check(config)
    config.task = {"_target_": "stranger._nets.build", "depth": "x"}
    with pytest.raises(ConfigError, match=r"^task.depth: got 'x'; legal: int$"):
        check(config)


def test_no_target_is_imported_before_all_are_allowed(composed: Compose, stranger: Path) -> None:
    config = composed("trusted_modules=[stranger]")
    config.task = {"_target_": "stranger.Net", "width": 3}
    for key, value, message in (
        ("callbacks.stop._target_", "os.system", "callbacks.stop._target_: 'os.system' is refused"),
        ("seed", "x", "seed: got 'x'"),
    ):
        wrong = config.copy()
        OmegaConf.update(wrong, key, value)
        with pytest.raises(ConfigError, match=f"^{message}"):
            check(wrong)
    assert not stranger.exists()
    check(config)
    assert stranger.exists()


def test_keys_cannot_write_lines_into_a_log(composed: Compose) -> None:
    config = composed()
    OmegaConf.update(config, "task", {"a\nerror: b" * 50: 1})
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 400


def test_nan_is_seen_at_any_depth(composed: Compose) -> None:
    config = composed()
    config.strategy.arch_optimizer.betas = [0.5, math.nan]
    with pytest.raises(ConfigError, match=r"betas: got \[0.5, nan\]"):
        check(config)


def test_a_mistake_at_the_top_is_found_without_torch(composed: Compose, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(OmegaConf.to_yaml(composed("trainer.gradient_clip_val=1")))
    code = (
        "import sys\nfrom omegaconf import OmegaConf\nfrom lightning_nas.cli.config.check import check\n"
        f"try: check(OmegaConf.load({str(file)!r}))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print(sorted({'torch', 'pytorch_lightning', 'torchmetrics', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    said, imported = done.stdout.splitlines()
    assert said.startswith("ConfigError trainer.gradient_clip_val: ")
    assert imported == "[]"
