"""Run a Hydra command so that every failure ends with one line and its own exit code. Imports no torch itself."""

import errno
import gc
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from lightning_nas.cli.arguments import arranged, check_flags
from lightning_nas.cli.config.composing import guarded
from lightning_nas.cli.configuration import explained, one_line
from lightning_nas.cli.presets import conf_dir as conf_dir
from lightning_nas.cli.search_path import register
from lightning_nas.errors import EnvironmentFailure, Interrupted, NasError, shown
from lightning_nas.files import replace_file

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def run_command(task: Callable[[DictConfig], float | None], config_name: str) -> None:
    """Compose the configuration, run ``task`` on it, and leave the process with the documented exit code.

    Bad input and configuration, Hydra's own errors included, end with one line beginning ``error:`` on stderr and exit
    code 2; numerical failure with 3, the environment with 4, signals with 130 and 143. Anything else is a bug of this
    library: it keeps its traceback and ends with 1. A job of a sweep that fails in one of the first three ways lets the
    other jobs run; the first failure is the exit code. Flags and overrides may come in any order.

    What ``task`` returns is the value of a job that a Hydra sweeper optimises; that of a job that failed is NaN.
    """
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors on instead of printing them
    logging.raiseExceptions = False  # a log file on a full disk prints no traceback

    begun, place = False, ""

    def reporting(config: DictConfig) -> float | None:
        nonlocal begun
        begun = True
        code, value = _reported(task, config)
        if code and HydraConfig.get().mode != RunMode.MULTIRUN:
            sys.exit(code)
        if code:
            _note(Path(place), HydraConfig.get().job.num, code)
        return value

    try:
        sys.argv[1:] = arranged(sys.argv[1:])
        check_flags(sys.argv[1:])
        # for a sweep, of which Hydra tells only its jobs: a flag, an override or any file may ask for one
        with TemporaryDirectory(prefix="lightning_nas_") as place, guarded():
            hydra.main(version_base="1.3", config_path=conf_dir(), config_name=config_name)(reporting)()
            notes = [file for file in Path(place).iterdir() if file.name.isdigit()]
            failures = {int(file.name): int(file.read_text()) for file in notes}
        if failures:
            sys.exit(failures[min(failures)])
    except NasError as error:
        sys.exit(_report(error, error.exit_code))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_report(explained(error, config_name, sys.argv[1:]), 2))
    except (OSError, YAMLError, ValueError) as error:
        if begun:
            raise
        # Hydra cannot read a file of the configuration, or make the output folder
        sys.exit(_report(error, EnvironmentFailure.exit_code if getattr(error, "errno", None) in _FULL else 2))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # else the interpreter searches torch's objects for garbage on its way out, for two seconds


def _note(folder: Path, job: int, code: int) -> None:
    """Leave the exit code of a job for the process that began the sweep; the job may run in another one.

    Raises:
        EnvironmentFailure: that process is on another machine, which Hydra tells of an exception.
    """
    if not folder.is_dir():
        raise EnvironmentFailure(f"job {job} of the sweep ended with exit code {code}, see its log")
    replace_file(folder / str(job), str(code).encode())


def _reported(task: Callable[[DictConfig], float | None], config: DictConfig) -> tuple[int, float | None]:
    """Run the task; returns the exit code and the task's value, NaN if it failed.

    Reports errors itself, since Hydra would print its own lines on them.
    """
    try:
        return 0, task(config)
    except NasError as error:
        return _report(error, error.exit_code), math.nan
    except InstantiationException as error:
        if not isinstance(error.__cause__, NasError):
            raise
        return _report(error.__cause__, error.__cause__.exit_code), math.nan
    except KeyboardInterrupt:
        raise Interrupted(130) from None
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        what = "there is not enough memory for this run: make batches, networks or counts smaller"
        return _report(EnvironmentFailure(f"{what} ({error})"), EnvironmentFailure.exit_code), math.nan
    except OSError as error:
        if isinstance(error, (FileNotFoundError, ConnectionError, TimeoutError)) or not error.strerror:
            raise
        return _report(error, EnvironmentFailure.exit_code), math.nan


def _is_out_of_memory(error: Exception) -> bool:
    from lightning_nas.experiment.memory import is_out_of_memory  # torch, which the run has imported by now

    return is_out_of_memory(error)


def _report(error: Exception, code: int) -> int:
    text = one_line(error)
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        where = f": {shown(Path(str(error.filename)))}" if error.filename else " (is the disk full?)"
        text = f"{error.strerror}{where}"
    print("error:", "".join(letter if letter.isprintable() else "?" for letter in text[:800]), file=sys.stderr)
    return code
