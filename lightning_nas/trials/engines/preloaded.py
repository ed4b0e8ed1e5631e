"""Modules that the fork server imports once, so that no job server has to."""

import gc

import lightning_nas.data.images
import lightning_nas.data.vision
import lightning_nas.trials.job  # noqa: F401

gc.freeze()  # forked processes share these objects for good, and do not search them for garbage
