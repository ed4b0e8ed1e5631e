import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from lightning_nas.cli.config.composing import guarded
from lightning_nas.cli.config.written import Asked, check_written
from lightning_nas.errors import ConfigError

ROOT = Path(__file__).parents[3]
MKDIR = "{_target_: os.mkdir, path: CANARY}"
SYMPY = "{_target_: sympy.sympify, a: \"__import__('pathlib').Path('CANARY').touch()\"}"
# each is an overlay a stranger could have written; Hydra acts on it before the command's function is called
ATTACKS = {
    "callback": f"callbacks: {{evil: {SYMPY}}}",
    "callback elsewhere": f"callbacks: {{evil: '${{evil}}'}}\nevil: {MKDIR}",
    "callback as a whole": f"callbacks: ${{evil}}\nevil: {{x: {MKDIR}}}",
    "made callback": "callbacks: {evil: '${oc.create:{_target_:os.mkdir,path:CANARY}}'}",
    "launcher": "launcher: {_target_: os.abort}",
    "sweeper": "sweeper: {params: {x: {_target_: os.mkdir, path: CANARY}}}",
    "interpolated launcher": "launcher: {_target_: '${oc.decode:os.abort}'}",
    "logging factory": "job_logging: {formatters: {evil: {(): os.mkdir, path: CANARY}}}",
    "logging filter": "job_logging: {filters: {evil: {(): os.mkdir, path: CANARY}}}",
    "logging class": "job_logging: {handlers: {evil: {class: subprocess.Popen, args: [touch, CANARY]}}}",
    "logging elsewhere": "job_logging: {formatters: {evil: '${evil}'}}\nevil: {(): os.mkdir, path: CANARY}",
    "logging as a whole": "hydra_logging: ${evil}\nevil: {version: 1, filters: {x: {(): os.mkdir, path: CANARY}}}",
    "logging import": "job_logging: {handlers: {console: {stream: 'ext://this.s'}}}",
    "logging to a start-up file": "job_logging: {handlers: {file: {filename: /root/.bashrc}}}",
    "environment": "job: {env_set: {LD_PRELOAD: CANARY}}",
    "environment copied": "job: {env_copy: [HOME]}",
    # logging sets attributes of a handler from the key "."
    "logging attribute": """job_logging: {formatters: {z: {format: "print('ran')"}}, handlers: {x: {class:
        logging.FileHandler, formatter: z, filename: '${hydra.runtime.output_dir}/x.log', delay: true,
        .: {baseFilename: torch.py}}}}""",
    "logging follows": "job_logging: {handlers: {console: {stream: 'cfg://handlers.file'}}}",
    "logging resolves to an import": """job_logging: {formatters: {simple: {format:
        'ext:${hydra.job.config.override_dirname.kv_sep}evilmod.x'}}}
  job: {config: {override_dirname: {kv_sep: '//'}}}""",
    "logging imports": "hydra_logging: {formatters: {simple: {format: 'ext://this.s'}}}",
    "logging escapes": "job_logging: {formatters: {simple: {format: '\\\\${evil}'}}}\nevil: ext://this.s",
    "logging style": "job_logging: {formatters: {simple: {style: '{', format: '{msg.__class__}'}}}",
    "logging beside the folder": "job_logging: {handlers: {file: {filename: '${hydra.runtime.output_dir}/../x.log'}}}",
    "logging into a program": "job_logging: {handlers: {file: {filename: '${hydra.runtime.output_dir}/torch.py'}}}",
    "logging to the environment": "job_logging: {handlers: {file: {filename: '${oc.env:HOME}/x.log'}}}",
    "logging beside the run": "job_logging: {handlers: {file: {filename: '${hydra.job.name}.log'}}}",
    "logging by queue": "job_logging: {handlers: {x: {class: logging.handlers.QueueHandler, queue: os.system}}}",
    "logging by mail": "job_logging: {handlers: {x: {class: logging.handlers.SMTPHandler, mailhost: evil}}}",
    "logging root": "job_logging: {root: {handlers: [console], filters: [{(): os.mkdir}]}}",
    "job name": "job: {name: ../../x}",
    "job name later": "job: {name: '${evil}'}\nevil: ../../x",
    "run folder": "run: {dir: CANARY}",
    "run folder above": "run: {dir: a/../../CANARY}",
    "run folder by date": "run: {dir: '${now:../../x}'}",
    "run folder elsewhere": "run: {dir: '${oc.env:HOME}/.ssh'}",
    "sweep folder": "sweep: {dir: CANARY}",
    "folder of a job": "sweep: {subdir: '${trap.${hydra.job.num}}'}",
    "folder of copies": "output_subdir: CANARY",
    "folder of copies above": "output_subdir: ../../x",
    "separator": "job: {config: {override_dirname: {item_sep: /../}}}",
    # a name of Hydra's own that leads to something it imports
    "through a module": "callbacks: {x: {_target_: lightning_nas.cli.sweep.Path.touch}}",
    "no callback": "callbacks: {x: {_target_: lightning_nas.cli.sweep.Console}}",
    "function": "callbacks: {x: {_target_: lightning_nas.cli.sweep.write_sweep, runs: []}}",
    "through the launcher": "launcher: {_target_: hydra._internal.core_plugins.basic_launcher.Path}",
}
# what an overlay may not decide: where a run writes, and whom it talks to
PLACES = {
    "logger.x={_target_: lightning_nas.training.metrics.MetricsFile, path: CANARY}": "is refused",
    "logger.x={_target_: lightning_nas.trials.ledger.Ledger, path: CANARY}": "is refused",
    "logger.x={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: CANARY}": "on the command line",
    "logger.x={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: '${evil}'}": "on the command line",
    "logger.x={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: '${paths.output}/..'}": "on the command line",
    "logger.x={_target_: pytorch_lightning.loggers.CSVLogger, save_dir: '${paths.output}', name: ../x}": "plain name",
    "logger.x={_target_: pytorch_lightning.loggers.MLFlowLogger, tracking_uri: 'http://evil'}": "on the command line",
    "logger.x={_target_: pytorch_lightning.loggers.WandbLogger, entity: evil}": "on the command line",
    "logger.x={_target_: pytorch_lightning.loggers.WandbLogger, settings: {base_url: evil}}": "on the command line",
    "callbacks.x={_target_: pytorch_lightning.callbacks.ModelCheckpoint, dirpath: CANARY}": "on the command line",
    "trainer={_target_: pytorch_lightning.Trainer, default_root_dir: CANARY}": "on the command line",
    "dataset={_target_: lightning_nas.data.vision.CIFAR10, root: CANARY, download: true}": "on the command line",
    "latency_table={_target_: lightning_nas.latency.sources.Measured, path: CANARY}": "on the command line",
    "engine={_target_: lightning_nas.trials.engines.ray.RayEngine, address: 'evil:1'}": "on the command line",
    "paths.output=CANARY": "on the command line",
    "paths.cache=CANARY": "on the command line",
    "out=CANARY": "on the command line",
    "seed=${oc.env:A_SECRET_TOKEN}": "secret",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A folder of configurations with a group of strangers' overlays."""
    folder = tmp_path / "conf"
    (folder / "overlay").mkdir(parents=True)
    (folder / "config.yaml").write_text("defaults: [_self_, {overlay: null}]\nseed: 0\ntrusted_modules: []\n")
    return folder


def write(conf: Path, attack: str) -> Path:
    canary = conf.parent / "canary"
    hydra = attack.replace("CANARY", str(canary))
    (conf / "overlay" / "evil.yaml").write_text(f"# @package _global_\nhydra:\n  {hydra}\n")
    return canary


@pytest.mark.parametrize("name", ATTACKS)
def test_hydra_does_not_act_on_a_strangers_overlay(conf: Path, name: str) -> None:
    canary = write(conf, ATTACKS[name])
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"), pytest.raises(ConfigError) as caught:
        compose("config", ["overlay=evil"], return_hydra_config=True)
    assert len(str(caught.value)) <= 400
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("hydra."), "it is refused for what it does to Hydra"
    assert not re.search(r": no '|cannot be resolved", str(caught.value)), "and not because it would not work"
    assert not canary.exists()


APP = """
import sys, hydra
from contextlib import nullcontext
from lightning_nas.cli.config.composing import guarded
sys.argv = ["app", "overlay=evil"]
with {guard}():
    hydra.main(version_base="1.3", config_path={conf!r}, config_name="config")(lambda config: None)()
"""


@pytest.mark.parametrize("name", ["callback", "logging factory"])
@pytest.mark.parametrize("guard", ["nullcontext", "guarded"])
def test_without_the_guard_the_canary_sings(conf: Path, name: str, guard: str) -> None:
    canary = write(conf, ATTACKS[name])
    code = APP.format(guard=guard, conf=str(conf))
    path = {"PYTHONPATH": str(ROOT), "PATH": "", "HYDRA_FULL_ERROR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=conf.parent, env=path, capture_output=True, text=True, check=False
    )
    assert canary.exists() == (guard == "nullcontext")
    assert ("ConfigError" in done.stderr) == (guard == "guarded")


def test_trusted_modules_count_on_the_command_line_alone(conf: Path) -> None:
    (conf / "overlay" / "evil.yaml").write_text(
        "# @package _global_\ntrusted_modules: [os]\nx: {_target_: os.system}\n"
    )
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"):
        with pytest.raises(ConfigError, match=r"^trusted_modules may only be set on the command line"):
            compose("config", ["overlay=evil"])
        with pytest.raises(ConfigError, match=r"^x._target_: 'os.system' is refused"):
            compose("config", ["overlay=evil", "trusted_modules=[]"])
        assert compose("config", ["overlay=evil", "trusted_modules=[os]"]).trusted_modules == ["os"]


MEASURED = "_target_: lightning_nas.latency.sources.Measured, device: command, command: 'CANARY {model}'"
COMMANDS = {
    "of the table": f"latency_table: {{{MEASURED}}}",
    "of a file": f"latency_table: {{{MEASURED.replace('Measured', 'File')}}}",
    "elsewhere": f"latency_table: ${{evil}}\nevil: {{{MEASURED}}}",
    "at another place": "latency_table: {command: '${evil}'}\nevil: CANARY {model}",
    "of the latency command": "measure: {device: command, command: 'CANARY {model}'}",
    "of the latency command elsewhere": "measure: ${evil}\nevil: {command: 'CANARY {model}'}",
}


@pytest.mark.parametrize("way", COMMANDS)
def test_a_command_that_measures_counts_on_the_command_line_alone(conf: Path, way: str) -> None:
    (conf / "overlay" / "evil.yaml").write_text(f"# @package _global_\n{COMMANDS[way]}\n")
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"):
        with pytest.raises(ConfigError, match=r"command: got .*it may only be set on the command line"):
            compose("config", ["overlay=evil"])
        place = "measure" if "latency command" in way else "latency_table"
        if "elsewhere" not in way:
            mine = compose("config", ["overlay=evil", f"++{place}.command='mine {{model}}'"])
            assert mine[place].command == "mine {model}"
            with pytest.raises(ConfigError, match="legal: plain text, no interpolation"):
                compose("config", ["overlay=evil", f"++{place}.command=${{oc.env:HOME}}"])


def test_a_command_is_typed_as_part_of_a_mapping_too(conf: Path) -> None:
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"):
        config = compose("config", [f"+latency_table={{{MEASURED}}}"])
        assert config.latency_table.command == "CANARY {model}"


@pytest.mark.parametrize(
    "param", ["trusted_modules: '[os]'", "+trusted_modules: '[os]'", "++latency_table.command: 'evil {model}'"]
)
def test_what_a_file_lets_a_sweep_set_was_not_typed(conf: Path, param: str) -> None:
    text = f"# @package _global_\nhydra: {{mode: MULTIRUN, sweeper: {{params: {{{param}}}}}}}\n"
    (conf / "overlay" / "evil.yaml").write_text(text)
    key, value = yaml.safe_load(param).popitem()
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"):
        job = ["overlay=evil", f"++{key.lstrip('+')}='{value}'" if "command" in key else f"{key.lstrip('+')}={value}"]
        with pytest.raises(ConfigError, match=r"may only be set on the command line"):
            compose("config", job)


def test_hydras_own_groups_pass() -> None:
    with guarded(), initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for logging in ("default", "disabled", "none", "stdout"):
            overrides = [f"hydra/job_logging={logging}", "hydra.mode=RUN"]
            config = compose("config", overrides, return_hydra_config=True)
            assert config.hydra.launcher._target_.endswith("BasicLauncher")


def dispatching(text: str) -> Any:
    """A composed configuration with Joblib's launcher, which evaluates this text."""
    with guarded(), initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        content: Any = OmegaConf.to_container(compose("config", return_hydra_config=True))
    target = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
    content["hydra"]["launcher"] = {"_target_": target, "pre_dispatch": text}
    return content


@pytest.mark.parametrize("text", ["2*n_jobs", "all", "8"])
def test_joblibs_launcher_may_dispatch_as_it_usually_does(text: str) -> None:
    check_written(dispatching(text), Asked([]))


@pytest.mark.parametrize("text", ["n_jobs.__class__", "2**99", "print(n_jobs)", "2*n_jobs+1"])
def test_joblibs_launcher_evaluates_nothing_else(text: str) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.pre_dispatch: got"):
        check_written(dispatching(text), Asked([]))


@pytest.mark.parametrize("place", PLACES)
def test_an_overlay_decides_on_no_place_outside_the_run(
    conf: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_TOKEN", "x")
    key, _, text = place.replace("CANARY", str(conf.parent / "canary")).partition("=")
    content: Any = yaml.safe_load(text)
    for name in reversed(key.split(".")):
        content = {name: content}
    (conf / "overlay" / "evil.yaml").write_text("# @package _global_\n" + yaml.safe_dump(content))
    refused = pytest.raises((ConfigError, InterpolationResolutionError), match=PLACES[place])
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"), refused:
        OmegaConf.to_container(compose("config", ["overlay=evil"]), resolve=True)


def test_what_is_typed_on_the_command_line_is_the_users_own(conf: Path) -> None:
    folder = str(conf.parent)
    logger = f"{{_target_: pytorch_lightning.loggers.CSVLogger, save_dir: {folder}}}"
    overrides = [
        f"hydra.run.dir={folder}",
        f"hydra.sweep.dir={folder}",
        f"+paths.output={folder}",
        f"+logger.x={logger}",
    ]
    overrides += ["hydra.sweep.subdir=${hydra.job.override_dirname}", "+logger.x.version=../x"]
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"):
        assert compose("config", overrides, return_hydra_config=True).hydra.run.dir == folder


def test_the_logging_that_was_checked_is_the_logging_that_is_used(conf: Path) -> None:
    text = "# @package _global_\nhydra:\n  job_logging: {formatters: {simple: {format: '${evil}'}}}\nevil: harmless\n"
    (conf / "overlay" / "evil.yaml").write_text(text)
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"):
        config = compose("config", ["overlay=evil"], return_hydra_config=True)
    config.evil = "ext://evil.x"
    assert config.hydra.job_logging.formatters.simple.format == "harmless"
    config.hydra.runtime.output_dir = "/here"
    assert config.hydra.job_logging.handlers.file.filename == f"/here/{config.hydra.job.name}.log"


def test_a_primary_configuration_imports_no_package(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (conf.parent / "evilpackage").mkdir()
    (conf.parent / "evilpackage" / "__init__.py").write_text(f"open({str(conf.parent / 'canary')!r}, 'w')\n")
    monkeypatch.syspath_prepend(conf.parent)
    (conf / "theirs.yaml").write_text("defaults: [config, _self_]\nhydra: {searchpath: ['pkg://evilpackage']}\n")
    with (
        guarded(),
        initialize_config_dir(str(conf), version_base="1.3"),
        pytest.raises(ConfigError, match="searchpath"),
    ):
        compose("theirs")
    assert not (conf.parent / "canary").exists()


def test_no_interpolation_makes_an_entry_out_of_text() -> None:
    makers = ("oc.create", "oc.decode")
    with guarded():
        assert not any(map(OmegaConf.has_resolver, makers))
    assert all(map(OmegaConf.has_resolver, makers))
