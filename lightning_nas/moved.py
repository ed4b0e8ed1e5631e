"""The present names of classes that have moved: users' YAML and checkpoints of version 0.1 have the old ones."""

_HOUSE = "lightning_nas."

# beginnings of module names, for modules that are not in _MODULES
_BEGINNINGS = {
    "children.engines.": "trials.engines.",
    "strategies.trials.": "strategies.multi_trial.",
    "spaces.block_qnn_": "spaces.block_qnn.",
    "spaces.darts_": "spaces.darts.",
    "spaces.eas_": "spaces.eas.",
    "spaces.enas_": "spaces.enas.",
    "spaces.nas_rl_": "spaces.nas_rl.",
    "spaces.nasnet_": "spaces.nasnet.",
    "spaces.recurrent_": "spaces.recurrent.",
}
_MODULES = {
    "children.averaging": "training.averaging",
    "children.child": "trials.child",
    "children.curves": "truth.curves",
    "children.engines.table": "trials.engines.lookup",
    "children.ledger": "trials.ledger",
    "children.requests": "trials.requests",
    "children.table": "truth.nasbench201",
    "children.trainings": "truth.short_training",
    "children.trials": "trials.book",
    "children.truth": "truth.stand_alone",
    "spaces.block_code": "spaces.block_qnn.code",
    "spaces.chain_networks": "spaces.chains.networks",
    "spaces.chain_space": "spaces.chains.space",
    "spaces.chains": "spaces.chains.shapes",
    "spaces.enas_rnn_cells": "spaces.recurrent.enas_cells",
    "spaces.fbnet": "spaces.chains.fbnet",
    "spaces.mnasnet": "spaces.chains.mnasnet",
    "spaces.mobile": "spaces.chains.mobile",
    "spaces.nas_rl_cells": "spaces.nas_rl.tree_cells",
    "spaces.proxyless": "spaces.chains.proxyless",
    "spaces.proxyless_blocks": "spaces.chains.proxyless_blocks",
    "spaces.recurrent": "spaces.recurrent.base",
    "spaces.spos_shufflenet": "spaces.chains.spos_shufflenet",
    "strategies.controller": "strategies.controllers.controller",
    "strategies.controller_steps": "strategies.controllers.steps",
    "strategies.trials.eas_actors": "strategies.controllers.eas_actors",
    "strategies.trials.eas_policies": "strategies.controllers.eas_policies",
    "strategies.weights": "strategies.loop",
    "sweep": "cli.sweep",
}
# classes with a new name
_CLASSES = {
    "spaces.block_qnn_networks.Place": "spaces.block_qnn.networks.BlockPlace",
    "spaces.chain_space.Block": "spaces.chains.space.SearchedBlock",
    "spaces.darts_networks.Genotype": "spaces.cells.genotype.Genotype",
    "spaces.enas_micro_networks.MicroCell": "spaces.cells.stacked.GenotypeCell",
    "spaces.enas_micro_networks.MicroNetwork": "spaces.cells.stacked.StackedCells",
    "spaces.enas_micro_networks.Place": "spaces.cells.place.CellPlace",
    "spaces.proxyless.Block": "spaces.chains.proxyless.ProxylessBlock",
    "spaces.recurrent.RecurrentSpace": "spaces.language_models.RecurrentSpace",
    "strategies.controller_steps.Step": "strategies.controllers.steps.ControllerStep",
    "strategies.weights.Training": "strategies.loop.GroupTraining",
    "strategies.weights.WeightsLoop": "strategies.loop.SearchLoop",
    "children.table.TabulatedTruth": "truth.tabulated.TabulatedTruth",
    "truth.nasbench201.TabulatedTruth": "truth.tabulated.TabulatedTruth",
    "children.training.ChildModule": "training.network.NetworkTraining",
    "children.trainings.Trainings": "truth.short_training.ShortTraining",
    "data.images.Npz": "data.images.NPZ",
    "data.vision.Cifar10": "data.vision.CIFAR10",
    "data.vision.Cifar100": "data.vision.CIFAR100",
    "data.vision.FashionMnist": "data.vision.FashionMNIST",
    "spaces.block_qnn.BlockQnnSpace": "spaces.block_qnn.space.BlockQNNSpace",
    "spaces.darts.DartsSpace": "spaces.darts.space.DARTSSpace",
    "spaces.darts_cell.DartsCellSpace": "spaces.darts.any_cell.DARTSCellSpace",
    "spaces.darts_networks.DartsNetwork": "spaces.darts.networks.DARTSNetwork",
    "spaces.darts_networks.DartsSupernet": "spaces.darts.networks.DARTSSupernet",
    "spaces.darts_rnn.DartsRnnSpace": "spaces.recurrent.darts.DARTSRNNSpace",
    "spaces.eas.EasSpace": "spaces.eas.space.EASSpace",
    "spaces.enas_macro.EnasMacroSpace": "spaces.enas.macro.ENASMacroSpace",
    "spaces.enas_macro_retrained.EnasMacroNetworks": "spaces.enas.macro_retrained.ENASMacroNetworks",
    "spaces.enas_micro.EnasMicroSpace": "spaces.enas.micro.ENASMicroSpace",
    "spaces.enas_micro_retrained.EnasMicroNetworks": "spaces.enas.micro_retrained.ENASMicroNetworks",
    "spaces.enas_rnn.EnasRnnSpace": "spaces.recurrent.enas.ENASRNNSpace",
    "spaces.nas_rl_cnn.NasRlCnnSpace": "spaces.nas_rl.cnn.NASRLCNNSpace",
    "spaces.nas_rl_rnn.NasRlRnnSpace": "spaces.nas_rl.rnn.NASRLRNNSpace",
    "spaces.nasbench201.NasBench201Space": "spaces.nasbench201.space.NASBench201Space",
    "spaces.nasbench201.NasBench201Supernet": "spaces.nasbench201.space.NASBench201Supernet",
    "spaces.nasnet.NasnetSpace": "spaces.nasnet.space.NASNetSpace",
    "spaces.nasnet_cell.NasnetCellSpace": "spaces.nasnet.any_cell.NASNetCellSpace",
    "spaces.nasnet_cells.NasnetCells": "spaces.nasnet.cells.NASNetCells",
    "spaces.nasnet_form.NasnetForm": "spaces.nasnet.form.NASNetForm",
    "spaces.nasnet_networks.NasnetCell": "spaces.nasnet.networks.NASNetCell",
    "spaces.nasnet_networks.NasnetGenotype": "spaces.nasnet.networks.NASNetGenotype",
    "spaces.nasnet_networks.NasnetPlace": "spaces.nasnet.networks.NASNetPlace",
    "spaces.pnas.PnasSpace": "spaces.nasnet.pnas.PNASSpace",
    "spaces.proxyless.ProxylessSpace": "spaces.chains.proxyless.ProxylessNASSpace",
    "spaces.recurrent.RnnSupernet": "spaces.recurrent.base.RNNSupernet",
    "strategies.differentiable.darts.Darts": "strategies.differentiable.darts.DARTS",
    "strategies.differentiable.darts_minus.DartsMinus": "strategies.differentiable.darts_minus.DARTSMinus",
    "strategies.differentiable.fair_darts.FairDarts": "strategies.differentiable.fair_darts.FairDARTS",
    "strategies.differentiable.gdas.Gdas": "strategies.differentiable.gdas.GDAS",
    "strategies.differentiable.p_darts.PDarts": "strategies.differentiable.p_darts.PDARTS",
    "strategies.differentiable.pc_darts.PCDarts": "strategies.differentiable.pc_darts.PCDARTS",
    "strategies.differentiable.proxyless.Proxyless": "strategies.differentiable.proxyless.ProxylessNAS",
    "strategies.differentiable.snas.Snas": "strategies.differentiable.snas.SNAS",
    "strategies.one_path.enas.Enas": "strategies.one_path.enas.ENAS",
    "strategies.one_path.random_ws.RandomSharing": "strategies.one_path.random_ws.RandomWS",
    "strategies.surrogate.Lstm": "strategies.surrogate.LSTMSurrogate",
    "strategies.surrogate.Mlp": "strategies.surrogate.MLP",
    "strategies.trials.block_qnn.BlockQnn": "strategies.multi_trial.block_qnn.BlockQNN",
    "strategies.trials.eas.Eas": "strategies.multi_trial.eas.EAS",
    "strategies.trials.nas_rl.NasRl": "strategies.multi_trial.nas_rl.NASRL",
    "strategies.trials.nasnet.Nasnet": "strategies.multi_trial.nasnet.NASNet",
    "strategies.trials.pnas.Pnas": "strategies.multi_trial.pnas.PNAS",
    "training.table.Table": "training.csv_table.CSVTable",
}


def present_name(name: str) -> str:
    """The dotted name that a class of version 0.1 has now; other names stay as they are.

    >>> present_name("lightning_nas.strategies.differentiable.darts.Darts")
    'lightning_nas.strategies.differentiable.darts.DARTS'
    >>> present_name("lightning_nas.children.child.Child")
    'lightning_nas.trials.child.Child'
    >>> present_name("torch.optim.Adam")
    'torch.optim.Adam'
    """
    inside = name.removeprefix(_HOUSE)
    if inside == name:
        return name
    if inside in _CLASSES:
        return _HOUSE + _CLASSES[inside]
    module, _, made = inside.rpartition(".")
    if module in _MODULES:
        return f"{_HOUSE}{_MODULES[module]}.{made}"
    for beginning, now in _BEGINNINGS.items():
        if inside.startswith(beginning):
            return _HOUSE + now + inside.removeprefix(beginning)
    return name
