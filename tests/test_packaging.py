"""All that setup.cfg names is there; packages are listed by hand, since ``find:`` does not see the mapped ``conf``."""

import configparser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_package_list_equals_the_tree(setup: configparser.ConfigParser) -> None:
    files = (ROOT / "lightning_nas").rglob("*.py")
    tree = {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    assert setup["options"]["packages"].split() == sorted(tree | {"lightning_nas.conf"})


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {file.parent for file in (ROOT / "lightning_nas").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_setuptools_would_install_every_file(monkeypatch: pytest.MonkeyPatch) -> None:
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.chdir(ROOT)
    distribution = setuptools.Distribution({"script_name": "setup.py"})
    distribution.parse_config_files(["setup.cfg"])
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    installed = {Path(output).relative_to(command.build_lib) for output in command.get_outputs(include_bytecode=False)}
    homes = {"lightning_nas": Path("lightning_nas"), "conf": Path("lightning_nas/conf")}
    there = {
        home / file.relative_to(folder)
        for folder, home in homes.items()
        for file in Path(folder).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert installed == there


def test_dependencies_have_the_floors_that_are_safe(setup: configparser.ConfigParser) -> None:
    needed = {line.split()[0]: line.split()[1:] for line in setup["options"]["install_requires"].strip().splitlines()}
    floors = {"torch": (2, 10), "pytorch-lightning": (2, 6, 6), "hydra-core": (1, 3, 6)}
    for name, floor in floors.items():
        sign, version = needed[name][:2]
        assert sign == ">="
        assert tuple(map(int, version.rstrip(",").split("."))) >= floor


def test_the_lowest_versions_are_the_bounds(setup: configparser.ConfigParser) -> None:
    needed = [line.split() for line in setup["options"]["install_requires"].strip().splitlines()]
    bounds = {name: version.rstrip(",") for name, _, version, *_ in needed}
    text = (ROOT / "requirements" / "lowest.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    assert pins.keys() == bounds.keys()
    assert [name for name in pins if not f"{pins[name]}.".startswith(f"{bounds[name]}.")] == []


def test_the_citation_has_the_version(setup: configparser.ConfigParser) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == setup["metadata"]["version"]
    assert f"## [{citation['version']}] - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
