import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lightning_nas.cli.config.composing import guarded
from lightning_nas.errors import ConfigError

ROOT = Path(__file__).parents[3]
SYMPY = "{_target_: sympy.sympify, a: \"__import__('pathlib').Path('CANARY').touch()\"}"
# each is an overlay a stranger could have written; Hydra acts on it before the command's function is called
ATTACKS = {
    "callback": f"callbacks: {{evil: {SYMPY}}}",
    "callback elsewhere": "callbacks: {evil: '${evil}'}",
    "callback as a whole": "callbacks: ${evil}",
    "made callback": "callbacks: {evil: '${oc.create:{_target_:os.mkdir,path:CANARY}}'}",
    "launcher": "launcher: {_target_: os.abort}",
    "sweeper": "sweeper: {params: {x: {_target_: os.mkdir, path: CANARY}}}",
    "interpolated launcher": "launcher: {_target_: '${oc.decode:os.abort}'}",
    "logging factory": "job_logging: {formatters: {evil: {(): os.mkdir, path: CANARY}}}",
    "logging filter": "job_logging: {filters: {evil: {(): os.mkdir, path: CANARY}}}",
    "logging class": "job_logging: {handlers: {evil: {class: subprocess.Popen, args: [touch, CANARY]}}}",
    "logging elsewhere": "job_logging: {formatters: {evil: '${evil}'}}",
    "logging as a whole": "hydra_logging: ${evil}",
    "logging import": "job_logging: {handlers: {console: {stream: 'ext://this.s'}}}",
    "logging to a start-up file": "job_logging: {handlers: {file: {filename: /root/.bashrc}}}",
    "environment": "job: {env_set: {LD_PRELOAD: CANARY}}",
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
    evil = f"evil: {{_target_: os.mkdir, (): os.mkdir, path: {canary}}}" if "${evil}" in hydra else ""
    (conf / "overlay" / "evil.yaml").write_text(f"# @package _global_\nhydra:\n  {hydra}\n{evil}\n")
    return canary


@pytest.mark.parametrize("name", ATTACKS)
def test_hydra_does_not_act_on_a_strangers_overlay(conf: Path, name: str) -> None:
    canary = write(conf, ATTACKS[name])
    with guarded(), initialize_config_dir(str(conf), version_base="1.3"), pytest.raises(ConfigError) as caught:
        compose("config", ["overlay=evil"], return_hydra_config=True)
    assert len(str(caught.value)) <= 400
    assert str(caught.value).isprintable()
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


def test_hydras_own_groups_pass() -> None:
    with guarded(), initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for logging in ("default", "disabled", "none", "stdout"):
            overrides = [f"hydra/job_logging={logging}", "hydra.mode=RUN"]
            config = compose("config", overrides, return_hydra_config=True)
            assert config.hydra.launcher._target_.endswith("BasicLauncher")


def test_no_interpolation_makes_an_entry_out_of_text() -> None:
    makers = ("oc.create", "oc.decode")
    with guarded():
        assert not any(map(OmegaConf.has_resolver, makers))
    assert all(map(OmegaConf.has_resolver, makers))
