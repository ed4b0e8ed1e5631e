"""Neural architecture search as a PyTorch Lightning plug-in."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lightning_nas")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.1.0"
