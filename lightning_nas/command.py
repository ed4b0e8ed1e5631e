"""Running a Hydra command so that every failure has one line and its own exit code. Never imports torch itself."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lightning_nas.config.composing import guarded
from lightning_nas.errors import EnvironmentFailure, Interrupted, NasError, shown


def conf_dir() -> str:
    """The folder of the Hydra groups: inside an installed package, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    return str(here / "conf" if (here / "conf").is_dir() else here.parent / "conf")


def run_command(task: Callable[[DictConfig], None], config_name: str) -> None:
    """Compose the configuration, run ``task`` on it, and leave the process with the documented exit code.

    Bad input and configuration, Hydra's own errors included, end with one line beginning ``error:`` on stderr and exit
    code 2; numerical failure with 3, the environment with 4, signals with 130 and 143. Anything else is a bug of this
    library: it keeps its traceback and ends with 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them

    def reporting(config: DictConfig) -> None:
        # Leave from inside the task: Hydra would print a line of its own about any other exception.
        try:
            task(config)
        except NasError as error:
            sys.exit(_report(error, error.exit_code))
        except InstantiationException as error:
            if not isinstance(error.__cause__, NasError):
                raise
            sys.exit(_report(error.__cause__, error.__cause__.exit_code))
        except KeyboardInterrupt:
            raise Interrupted(130) from None
        except OSError as error:
            if isinstance(error, (FileNotFoundError, ConnectionError, TimeoutError)) or not error.strerror:
                raise
            sys.exit(_report(error, EnvironmentFailure.exit_code))

    try:
        with guarded():
            hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)(reporting)()
    except NasError as error:
        sys.exit(_report(error, error.exit_code))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_report(error, 2))
    except OSError as error:
        if not error.filename:
            raise
        sys.exit(_report(error, 2))  # the task has not begun: Hydra cannot make the output folder
    except KeyboardInterrupt:
        sys.exit(130)


def _report(error: Exception, code: int) -> int:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        lines = [f"{error.strerror}: {shown(error.filename)}"]
    text = " ".join(lines).encode("ascii", "replace").decode()
    print(f"error: {text[:800]}", file=sys.stderr)
    return code
