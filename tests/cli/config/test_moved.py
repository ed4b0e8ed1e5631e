import importlib
import warnings

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.config.check import check
from lightning_nas.cli.config.composing import guarded
from lightning_nas.cli.config.moved import modernise, present_name

# classes of version 0.1 that a YAML could name, by module: the targets of conf/, and the public classes that have moved
OLD = """
callbacks.architecture_logger: ArchitectureLogger
callbacks.progress: SearchProgress
callbacks.rank_check: RankCheck
callbacks.search_health: SearchHealth
callbacks.trial_logger: TrialLogger
children.averaging: NonMonotonicAveraging
children.child: Child
children.curves: LearningCurves
children.engines.base: Engine
children.engines.local: LocalEngine
children.engines.process: ChildProcess Limits
children.engines.ray: RayEngine
children.engines.serial: SerialEngine
children.engines.table: TableEngine
children.ledger: Ledger
children.requests: Inherited Request Response
children.table: NasBench201Table TabulatedTruth
children.training: ChildModule
children.trainings: EachEpoch Trainings
children.trials: Proposal Trial Trials
children.truth: StandAlone
data.folder: ImageFolder ImageNet
data.images: Digits Npz
data.text: TextData
data.vision: Cifar10 Cifar100 FashionMnist
latency.published: HWNASBench Proxyless
latency.sources: File Macs Measured NoTable Params
spaces.block_code: LayerCode
spaces.block_qnn: BlockQnnSpace
spaces.block_qnn_networks: Block BlockNetwork Piece Place
spaces.chain_networks: ChainNetwork ChainSupernet Parts
spaces.chain_space: Block ChainSpace Frame
spaces.chains: Shape
spaces.darts: DartsSpace
spaces.darts_cell: DartsCellSpace
spaces.darts_form: CellsSpace Form
spaces.darts_networks: Cell CellShape DartsNetwork DartsSupernet Genotype MixedCell
spaces.darts_rnn: DartsRnnSpace
spaces.eas: EasSpace
spaces.eas_inheriting: Weights
spaces.eas_networks: Layer Piece PlainForm PlainNetwork
spaces.eas_plain: PlainNetworks
spaces.enas_macro: EnasMacroSpace
spaces.enas_macro_networks: MacroForm MacroNetwork MacroSupernet
spaces.enas_macro_retrained: EnasMacroNetworks MacroLayers
spaces.enas_micro: EnasMicroSpace
spaces.enas_micro_form: MicroForm
spaces.enas_micro_networks: MicroCell MicroNetwork Place
spaces.enas_micro_retrained: EnasMicroNetworks MicroCells
spaces.enas_micro_supernet: MicroSupernet MixedMicroCell Mixture
spaces.enas_rnn: EnasRnnSpace
spaces.enas_rnn_cells: ChosenCell MixedCell
spaces.fbnet: FBNetNetwork FBNetSpace FBNetSupernet Layer
spaces.mnasnet: Layer MnasNetSpace
spaces.mobile: Backbone MobileSpace
spaces.nas_rl_cells: Activations Rule Tree TreeCell TreeCells
spaces.nas_rl_cnn: NasRlCnnSpace
spaces.nas_rl_networks: ConnectedNetwork Layer
spaces.nas_rl_rnn: NasRlRnnSpace
spaces.nasbench201: NasBench201Space NasBench201Supernet
spaces.nasnet: NasnetSpace
spaces.nasnet_cell: NasnetCellSpace
spaces.nasnet_cells: NasnetCells
spaces.nasnet_form: NasnetForm
spaces.nasnet_networks: NasnetCell NasnetGenotype NasnetPlace
spaces.pnas: PnasSpace
spaces.proxyless: Block ProxylessSpace
spaces.proxyless_blocks: MBBlock
spaces.recurrent: RecurrentSpace RnnSupernet SharedRecurrentSpace
spaces.recurrent_cells: FixedCell MixedCell Step
spaces.spos_shufflenet: ShuffleNetSpace ShuffleShape SlicedChoice
strategies.controller: Controller Drawn
strategies.controller_steps: Step
strategies.differentiable.darts: Darts
strategies.differentiable.darts_minus: DartsMinus
strategies.differentiable.fair_darts: FairDarts
strategies.differentiable.fbnet: FBNet
strategies.differentiable.gdas: Gdas
strategies.differentiable.p_darts: PDarts
strategies.differentiable.pc_darts: PCDarts
strategies.differentiable.proxyless: Proxyless
strategies.differentiable.snas: Snas
strategies.one_path.enas: Enas
strategies.one_path.mdenas: MdeNAS
strategies.one_path.random_ws: RandomSharing
strategies.one_path.spos: SPOS
strategies.penalties: AddLinear FBNetProduct MnasNetProduct MulLog
strategies.surrogate: Lstm Mlp
strategies.trials.base: TrialSearch
strategies.trials.block_qnn: BlockQnn
strategies.trials.eas: Eas
strategies.trials.eas_actors: Changing Growing
strategies.trials.eas_policies: Decisions Encoder Policy Reading Walked
strategies.trials.mnasnet: MnasNet
strategies.trials.nas_rl: Minibatch NasRl
strategies.trials.nasnet: Nasnet
strategies.trials.optuna_search: OptunaSearch
strategies.trials.pnas: Expandable Pnas
strategies.trials.policy: PolicySearch
strategies.trials.random_search: RandomSearch
strategies.trials.regularized_evolution: RegularizedEvolution
strategies.weights: Training WeightsLoop
sweep: SweepSummary
tasks.classification: Classification
tasks.language_modelling: LanguageModelling
training.schedules: ExponentialFrom LinearWarmup WarmupThenCosine
training.table: Table
"""
NAMES = [f"lightning_nas.{module}.{name}" for module, names in yaml.safe_load(OLD).items() for name in names.split()]


@pytest.mark.parametrize("name", NAMES)
def test_every_class_of_version_0_1_is_found(name: str) -> None:
    module, _, made = present_name(name).rpartition(".")
    found = getattr(importlib.import_module(module), made)
    assert isinstance(found, type)
    assert found.__module__ == module
    assert present_name(f"{module}.{made}") == f"{module}.{made}"


def test_an_old_target_warns_once_and_gets_its_present_name() -> None:
    old = "lightning_nas.strategies.differentiable.darts.Darts"
    config = OmegaConf.create(
        {"a": {"_target_": old, "b": [{"_target_": old}, "${c}"]}, "c": {"_target_": "torch.optim.Adam"}, "d": "???"}
    )
    OmegaConf.set_readonly(config, True)
    with pytest.warns(FutureWarning) as caught:
        modernise(config)
    assert [str(warning.message) for warning in caught] == [
        f"{old} is now lightning_nas.strategies.differentiable.darts.DARTS; change the _target_ by 0.3"
    ]
    assert config.a._target_ == config.a.b[0]._target_ == "lightning_nas.strategies.differentiable.darts.DARTS"
    assert OmegaConf.is_readonly(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        modernise(config)


def test_a_configuration_with_old_targets_is_legal() -> None:
    override = "strategy._target_=lightning_nas.strategies.differentiable.darts.Darts"
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("config", ["strategy=darts", override, "paths.output=''"])
        with pytest.warns(FutureWarning, match="is now"):
            check(config)
        with guarded(), pytest.warns(FutureWarning, match="is now"):
            config = compose("config", ["strategy=darts", override, "paths.output=''"])
    assert config.strategy._target_.endswith(".DARTS")


def test_one_number_for_both_is_still_read() -> None:
    both = {"_target_": "a.MdeNAS", "score_batches": 3, "calibration_batches": 2}
    old = OmegaConf.create({"strategy": {"_target_": "a.DARTS", "score_batches": 8}, "other": both})
    OmegaConf.set_struct(old, True)
    modernise(old)
    assert old.strategy == {"_target_": "a.DARTS", "score_batches": 8, "calibration_batches": 8}
    assert old.other == both


def test_the_paths_of_mdenas_are_scored_as_before() -> None:
    old = OmegaConf.create({"strategy": {"_target_": "a.b.MdeNAS", "score_batches": 48}})
    modernise(old)
    assert old.strategy.path_score_batches == old.strategy.calibration_batches == 48
