"""What the fork server imports before the first child begins, so that children do not have to."""

import gc

import lightning_nas.data.images
import lightning_nas.data.vision
import lightning_nas.trials.job  # noqa: F401

gc.freeze()  # children share these objects for good, and nobody searches them for garbage on the way out
