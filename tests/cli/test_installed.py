"""From a wheel, in any working directory: the configuration is found inside the package."""

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
        shutil.copy(file, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(source / "dist")]
    subprocess.run([*pip, *build, str(source)], check=True, capture_output=True, timeout=120)
    [wheel] = (source / "dist").glob("*.whl")
    install = ["install", "--no-deps", "--no-index", "--no-compile", "--target", str(site), str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=120)
    shutil.rmtree(source)
    return site


@pytest.mark.parametrize("module", [MODULE, "lightning_nas.latency"])
def test_an_installed_command_finds_its_configuration(cli: Commands, site: Path, module: str) -> None:
    ended = cli.process("--cfg", "job", module=module, path=site).wait()
    assert ended.code == 0, ended.err
    assert "lightning_nas.spaces.chains.fbnet.FBNetSpace" in ended.out
    assert (site / "lightning_nas" / "conf" / "config.yaml").is_file()


def test_an_installed_package_has_its_data(site: Path) -> None:
    for name in ("py.typed", "zoo/fbnet_c.json", "conf/strategy/fbnet.yaml"):
        assert (site / "lightning_nas" / name).is_file()
