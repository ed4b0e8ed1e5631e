"""Other packages' parts on Hydra's search path, after the library's own: no package replaces an option of these."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from lightning_nas.cli.plugins import conf_packages, node, parts
from lightning_nas.cli.presets import files, names


class OtherPackages(SearchPathPlugin):
    """Adds the folders of the entry points ``lightning_nas.conf``, in the order of their names."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Hydra's hook."""
        for name, package in conf_packages().items():
            search_path.append(provider=name, path=f"pkg://{package}")


def register() -> None:
    """Let every configuration that this process composes from now on find the parts of other packages.

    The commands do so themselves; call it before ``hydra.initialize_config_module("lightning_nas.conf")``.
    """
    Plugins.instance().register(OtherPackages)
    store = ConfigStore.instance()
    for group, named in parts().items():
        package = f"callbacks.{group}" if group == "rank_check.truth" else None
        for name in (
            named.keys() - files(group).keys()
        ):  # Hydra would take the entry of a name with a YAML for its schema
            point = named[name]
            store.store(name=name, node=node(group, point), group=group, package=package, provider=point.value)
    for name in names("engine"):  # debug=fast and callbacks=fast look for a preset named after the engine
        for group, preset, default in (
            ("debug/steps", f"fast_{name}", "/debug/trials"),
            ("callbacks/fast", name, "/callbacks/trials@callbacks"),
        ):
            if preset not in files(group):
                store.store(name=preset, node={"defaults": [default]}, group=group, package="_global_")
