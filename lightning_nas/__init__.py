"""Neural architecture search as a PyTorch Lightning plug-in.

The names in ``__all__`` are the public interface: they follow the deprecation policy, everything else may change. They
are imported on first use, so that ``import lightning_nas`` costs no torch.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("lightning_nas")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.1.0"

if TYPE_CHECKING:
    from lightning_nas import choice, zoo
    from lightning_nas.architecture import Architecture, Decision
    from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
    from lightning_nas.callbacks.base import RecordingCallback
    from lightning_nas.callbacks.progress import SearchProgress
    from lightning_nas.callbacks.rank_check import RankCheck
    from lightning_nas.callbacks.search_health import SearchHealth
    from lightning_nas.callbacks.trial_logger import TrialLogger
    from lightning_nas.cli.python import Run, compare, retrain, search
    from lightning_nas.data.arrays import ArrayData
    from lightning_nas.data.base import SearchData
    from lightning_nas.data.digit_scenes import DigitScenes
    from lightning_nas.data.folder import ImageFolder, ImageNet
    from lightning_nas.data.given import as_search_data
    from lightning_nas.data.images import NPZ, Digits
    from lightning_nas.data.segmentation_folder import SegmentationFolder
    from lightning_nas.data.text import TextData
    from lightning_nas.data.tiny import TinyImages
    from lightning_nas.data.vision import CIFAR10, CIFAR100, FashionMNIST
    from lightning_nas.errors import NasError
    from lightning_nas.export.trained import load
    from lightning_nas.export.write import export_network
    from lightning_nas.latency.macs import count_macs, count_params
    from lightning_nas.latency.measure import measure_space
    from lightning_nas.latency.table import Conditions, LatencyTable
    from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
    from lightning_nas.spaces.block_qnn.space import BlockQNNSpace
    from lightning_nas.spaces.chains.fbnet import FBNetSpace
    from lightning_nas.spaces.chains.hardcore import HardCoReSpace
    from lightning_nas.spaces.chains.mnasnet import MnasNetSpace
    from lightning_nas.spaces.chains.mobile import MobileSpace
    from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
    from lightning_nas.spaces.chains.spos_shufflenet import ShuffleNetSpace
    from lightning_nas.spaces.chains.tiny import TinySpace
    from lightning_nas.spaces.darts.any_cell import DARTSCellSpace
    from lightning_nas.spaces.darts.space import DARTSSpace
    from lightning_nas.spaces.dpc.space import DPCSpace
    from lightning_nas.spaces.eas.space import EASSpace
    from lightning_nas.spaces.elastic.attentive_nas import AttentiveNASSpace
    from lightning_nas.spaces.elastic.ofa_mbv3 import OFAMobileNetV3Space
    from lightning_nas.spaces.enas.macro import ENASMacroSpace
    from lightning_nas.spaces.enas.micro import ENASMicroSpace
    from lightning_nas.spaces.gates import Gates
    from lightning_nas.spaces.nas_rl.cnn import NASRLCNNSpace
    from lightning_nas.spaces.nas_rl.rnn import NASRLRNNSpace
    from lightning_nas.spaces.nasbench201.space import NASBench201Space
    from lightning_nas.spaces.nasnet.any_cell import NASNetCellSpace
    from lightning_nas.spaces.nasnet.pnas import PNASSpace
    from lightning_nas.spaces.nasnet.space import NASNetSpace
    from lightning_nas.spaces.own.space import FromModel
    from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace
    from lightning_nas.spaces.recurrent.enas import ENASRNNSpace
    from lightning_nas.spaces.transformers.autoformer import AutoFormerSpace
    from lightning_nas.strategies.base import SearchModule
    from lightning_nas.strategies.differentiable.base import DifferentiableSearch
    from lightning_nas.strategies.differentiable.darts import DARTS
    from lightning_nas.strategies.differentiable.darts_minus import DARTSMinus
    from lightning_nas.strategies.differentiable.fair_darts import FairDARTS
    from lightning_nas.strategies.differentiable.fbnet import FBNet
    from lightning_nas.strategies.differentiable.gdas import GDAS
    from lightning_nas.strategies.differentiable.p_darts import PDARTS
    from lightning_nas.strategies.differentiable.pc_darts import PCDARTS
    from lightning_nas.strategies.differentiable.proxyless import ProxylessNAS
    from lightning_nas.strategies.differentiable.snas import SNAS
    from lightning_nas.strategies.multi_trial.base import TrialSearch
    from lightning_nas.strategies.multi_trial.block_qnn import BlockQNN
    from lightning_nas.strategies.multi_trial.eas import EAS
    from lightning_nas.strategies.multi_trial.local_search import LocalSearch
    from lightning_nas.strategies.multi_trial.mnasnet import MnasNet
    from lightning_nas.strategies.multi_trial.nas_rl import NASRL
    from lightning_nas.strategies.multi_trial.nasnet import NASNet
    from lightning_nas.strategies.multi_trial.optuna_search import OptunaSearch
    from lightning_nas.strategies.multi_trial.pnas import PNAS
    from lightning_nas.strategies.multi_trial.random_search import RandomSearch
    from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
    from lightning_nas.strategies.one_path.attentive import AttentiveNAS
    from lightning_nas.strategies.one_path.bignas import BigNAS
    from lightning_nas.strategies.one_path.enas import ENAS
    from lightning_nas.strategies.one_path.mdenas import MdeNAS
    from lightning_nas.strategies.one_path.ofa import OFA
    from lightning_nas.strategies.one_path.random_ws import RandomWS
    from lightning_nas.strategies.one_path.spos import SPOS
    from lightning_nas.tasks.base import Task
    from lightning_nas.tasks.classification import Classification
    from lightning_nas.tasks.language_modelling import LanguageModelling
    from lightning_nas.tasks.multilabel import MultiLabel
    from lightning_nas.tasks.regression import Regression
    from lightning_nas.tasks.segmentation import Segmentation

_HOME = {
    "Architecture": "architecture",
    "ArchitectureLogger": "callbacks.architecture_logger",
    "ArrayData": "data.arrays",
    "AttentiveNAS": "strategies.one_path.attentive",
    "AttentiveNASSpace": "spaces.elastic.attentive_nas",
    "AutoFormerSpace": "spaces.transformers.autoformer",
    "BigNAS": "strategies.one_path.bignas",
    "BlockQNN": "strategies.multi_trial.block_qnn",
    "BlockQNNSpace": "spaces.block_qnn.space",
    "CIFAR10": "data.vision",
    "CIFAR100": "data.vision",
    "Classification": "tasks.classification",
    "Conditions": "latency.table",
    "DARTS": "strategies.differentiable.darts",
    "DARTSCellSpace": "spaces.darts.any_cell",
    "DARTSMinus": "strategies.differentiable.darts_minus",
    "DARTSRNNSpace": "spaces.recurrent.darts",
    "DARTSSpace": "spaces.darts.space",
    "DPCSpace": "spaces.dpc.space",
    "Decision": "architecture",
    "DifferentiableSearch": "strategies.differentiable.base",
    "DigitScenes": "data.digit_scenes",
    "Digits": "data.images",
    "EAS": "strategies.multi_trial.eas",
    "EASSpace": "spaces.eas.space",
    "ENAS": "strategies.one_path.enas",
    "ENASMacroSpace": "spaces.enas.macro",
    "ENASMicroSpace": "spaces.enas.micro",
    "ENASRNNSpace": "spaces.recurrent.enas",
    "FBNet": "strategies.differentiable.fbnet",
    "FBNetSpace": "spaces.chains.fbnet",
    "FairDARTS": "strategies.differentiable.fair_darts",
    "FashionMNIST": "data.vision",
    "FromModel": "spaces.own.space",
    "GDAS": "strategies.differentiable.gdas",
    "Gates": "spaces.gates",
    "HardCoReSpace": "spaces.chains.hardcore",
    "ImageFolder": "data.folder",
    "ImageNet": "data.folder",
    "LanguageModelling": "tasks.language_modelling",
    "LatencyTable": "latency.table",
    "LocalSearch": "strategies.multi_trial.local_search",
    "MdeNAS": "strategies.one_path.mdenas",
    "MnasNet": "strategies.multi_trial.mnasnet",
    "MnasNetSpace": "spaces.chains.mnasnet",
    "MobileSpace": "spaces.chains.mobile",
    "MultiLabel": "tasks.multilabel",
    "NASBench201Space": "spaces.nasbench201.space",
    "NASNet": "strategies.multi_trial.nasnet",
    "NASNetCellSpace": "spaces.nasnet.any_cell",
    "NASNetSpace": "spaces.nasnet.space",
    "NASRL": "strategies.multi_trial.nas_rl",
    "NASRLCNNSpace": "spaces.nas_rl.cnn",
    "NASRLRNNSpace": "spaces.nas_rl.rnn",
    "NPZ": "data.images",
    "NasError": "errors",
    "OFA": "strategies.one_path.ofa",
    "OFAMobileNetV3Space": "spaces.elastic.ofa_mbv3",
    "OptunaSearch": "strategies.multi_trial.optuna_search",
    "PCDARTS": "strategies.differentiable.pc_darts",
    "PDARTS": "strategies.differentiable.p_darts",
    "PNAS": "strategies.multi_trial.pnas",
    "PNASSpace": "spaces.nasnet.pnas",
    "ProxylessNAS": "strategies.differentiable.proxyless",
    "ProxylessNASSpace": "spaces.chains.proxyless",
    "RandomSearch": "strategies.multi_trial.random_search",
    "RandomWS": "strategies.one_path.random_ws",
    "RankCheck": "callbacks.rank_check",
    "RecordingCallback": "callbacks.base",
    "Regression": "tasks.regression",
    "RegularizedEvolution": "strategies.multi_trial.regularized_evolution",
    "Run": "cli.python",
    "SNAS": "strategies.differentiable.snas",
    "SPOS": "strategies.one_path.spos",
    "SearchData": "data.base",
    "SearchHealth": "callbacks.search_health",
    "SearchModule": "strategies.base",
    "SearchProgress": "callbacks.progress",
    "SearchSpace": "spaces.base",
    "Segmentation": "tasks.segmentation",
    "SegmentationFolder": "data.segmentation_folder",
    "ShuffleNetSpace": "spaces.chains.spos_shufflenet",
    "Task": "tasks.base",
    "TextData": "data.text",
    "TinyImages": "data.tiny",
    "TinySpace": "spaces.chains.tiny",
    "TrialLogger": "callbacks.trial_logger",
    "TrialSearch": "strategies.multi_trial.base",
    "WeightSharingSpace": "spaces.base",
    "as_search_data": "data.given",
    "compare": "cli.python",
    "count_macs": "latency.macs",
    "count_params": "latency.macs",
    "export_network": "export.write",
    "load": "export.trained",
    "measure_space": "latency.measure",
    "retrain": "cli.python",
    "search": "cli.python",
}

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DARTS",
    "EAS",
    "ENAS",
    "GDAS",
    "NASRL",
    "NPZ",
    "OFA",
    "PCDARTS",
    "PDARTS",
    "PNAS",
    "SNAS",
    "SPOS",
    "Architecture",
    "ArchitectureLogger",
    "ArrayData",
    "AttentiveNAS",
    "AttentiveNASSpace",
    "AutoFormerSpace",
    "BigNAS",
    "BlockQNN",
    "BlockQNNSpace",
    "Classification",
    "Conditions",
    "DARTSCellSpace",
    "DARTSMinus",
    "DARTSRNNSpace",
    "DARTSSpace",
    "DPCSpace",
    "Decision",
    "DifferentiableSearch",
    "DigitScenes",
    "Digits",
    "EASSpace",
    "ENASMacroSpace",
    "ENASMicroSpace",
    "ENASRNNSpace",
    "FBNet",
    "FBNetSpace",
    "FairDARTS",
    "FashionMNIST",
    "FromModel",
    "Gates",
    "HardCoReSpace",
    "ImageFolder",
    "ImageNet",
    "LanguageModelling",
    "LatencyTable",
    "LocalSearch",
    "MdeNAS",
    "MnasNet",
    "MnasNetSpace",
    "MobileSpace",
    "MultiLabel",
    "NASBench201Space",
    "NASNet",
    "NASNetCellSpace",
    "NASNetSpace",
    "NASRLCNNSpace",
    "NASRLRNNSpace",
    "NasError",
    "OFAMobileNetV3Space",
    "OptunaSearch",
    "PNASSpace",
    "ProxylessNAS",
    "ProxylessNASSpace",
    "RandomSearch",
    "RandomWS",
    "RankCheck",
    "RecordingCallback",
    "Regression",
    "RegularizedEvolution",
    "Run",
    "SearchData",
    "SearchHealth",
    "SearchModule",
    "SearchProgress",
    "SearchSpace",
    "Segmentation",
    "SegmentationFolder",
    "ShuffleNetSpace",
    "Task",
    "TextData",
    "TinyImages",
    "TinySpace",
    "TrialLogger",
    "TrialSearch",
    "WeightSharingSpace",
    "as_search_data",
    "choice",
    "compare",
    "count_macs",
    "count_params",
    "export_network",
    "load",
    "measure_space",
    "retrain",
    "search",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in ("choice", "zoo"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
