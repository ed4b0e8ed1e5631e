"""What the fork server imports before the first child begins, so that children do not have to."""

import gc

gc.freeze()  # children share these objects for good, and nobody searches them for garbage on the way out
