"""The Hydra groups of a checkout, where ``conf/`` lies beside the package, under their installed name.

In an installed package ``lightning_nas/conf/`` is a folder of its own and Python prefers it to this file, so
``hydra.initialize_config_module("lightning_nas.conf")`` works everywhere.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_FILE = Path(__file__).resolve().parents[1] / "conf" / "__init__.py"
_SPEC = spec_from_file_location(__name__, _FILE)
if _SPEC is None or _SPEC.loader is None or not _FILE.is_file():
    raise ModuleNotFoundError(f"no configuration in {_FILE.parent}", name=__name__)
sys.modules[__name__] = module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules[__name__])
