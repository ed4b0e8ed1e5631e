"""From a wheel, in any working directory: the configuration is found inside the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import MODULE, ROOT, Commands


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package and nothing else of it."""
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip("pyproject.toml asks for setuptools >= 77, and builds without isolation take the one that is there")
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("lightning_nas", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    for file in (*ROOT.glob("*.toml"), *ROOT.glob("*.cfg"), *ROOT.glob("*.md"), *ROOT.glob("LICENSE*")):
        if file.is_file():
            shutil.copy(file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(source / "dist")]
    subprocess.run([*pip, *build, str(source)], check=True, capture_output=True, timeout=600)
    [wheel] = (source / "dist").glob("*.whl")
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--target", str(site), str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=600)
    shutil.rmtree(source)
    return site


@pytest.mark.parametrize("module", [MODULE, "lightning_nas.latency"])
def test_an_installed_command_finds_its_configuration(cli: Commands, site: Path, module: str) -> None:
    ended = cli.process("--cfg", "job", module=module, path=site).wait()
    assert ended.code == 0, ended.err
    assert "lightning_nas.spaces.chains.fbnet.FBNetSpace" in ended.out
    assert (site / "lightning_nas" / "conf" / "config.yaml").is_file()


def test_an_installed_package_has_the_console_script(cli: Commands, site: Path) -> None:
    script = [sys.executable, str(site / "bin" / "lightning-nas"), "run", "--cfg", "job", "seed=3"]
    env = {**os.environ, **cli.environment, "PYTHONPATH": str(site)}
    done = subprocess.run(script, env=env, cwd=cli.folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("seed: 3\n")


@pytest.mark.parametrize("installed", [True, False])
def test_hydra_finds_the_configuration_as_a_module(cli: Commands, site: Path, installed: bool) -> None:
    code = (
        "import hydra\n"
        "with hydra.initialize_config_module('lightning_nas.conf', version_base='1.3'):\n"
        "    print(hydra.compose('config', ['strategy=darts', \"paths.output=''\"]).strategy.order)\n"
        "import lightning_nas.conf; print(lightning_nas.conf.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(site if installed else ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=cli.folder, capture_output=True, text=True, timeout=600
    )
    home = site / "lightning_nas" if installed else ROOT
    assert done.stdout.splitlines() == ["first", str(home / "conf" / "__init__.py")], done.stderr


def test_an_installed_package_has_its_data(site: Path) -> None:
    for name in ("py.typed", "zoo/fbnet_c.json", "conf/strategy/fbnet.yaml"):
        assert (site / "lightning_nas" / name).is_file()
