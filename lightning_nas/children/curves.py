"""How good networks are after every epoch of a training on their own: the material of MdeNAS' ranking hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.progress import track

from lightning_nas.architecture import Architecture
from lightning_nas.children.truth import StandAlone
from lightning_nas.data.base import SearchData
from lightning_nas.files import write_json
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.tasks.base import Task
