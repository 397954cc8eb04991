"""Freezing scenarios: which parts of a model a training run may change.

Frozen means frozen: no gradient, not in the optimizer, dropout off.
"""

from torch import nn

from mtl_core.config import TrainConfig
from mtl_core.errors import ModelError, UnknownScenarioError
from mtl_core.model.layers import transformer_layers
from mtl_core.model.network import MultiTaskModel
from mtl_core.training.scenario_names import scenario_help


def apply_scenario(model: MultiTaskModel, config: TrainConfig) -> list[str]:
    """Set ``requires_grad`` on every parameter as the scenario says.

    Returns:
        names of the parameters that will be trained, in the model's order.
    Raises:
        UnknownScenarioError: no scenario of that name for the model's tasks.
        ModelError: ``last-layers`` on a backbone without recognisable layers, or with fewer.
    """
    scenario, backbone = config.scenario, model.encoder.backbone
    known = scenario_help(model.config.tasks)
    if scenario not in known:
        raise UnknownScenarioError(f"no scenario named '{scenario}'; there are: {', '.join(known)}")
    model.requires_grad_(scenario != "frozen")
    if scenario in ("freeze-backbone", "last-layers"):
        backbone.requires_grad_(False)
    if scenario == "last-layers":
        layers = transformer_layers(backbone)
        if config.layers > len(layers):
            raise ModelError(
                f"the backbone has {len(layers)} layers, --layers asks for {config.layers}"
            )
        for layer in layers[-config.layers :]:
            layer.requires_grad_(True)
    for task in model.config.tasks:
        if scenario == f"freeze-{task.name}-head":
            model.heads[task.name].requires_grad_(False)
            model.logit_scales[task.name].requires_grad_(False)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def set_training_mode(module: nn.Module, inherited: bool = False) -> None:
    """Put trained parts into training mode and frozen parts into evaluation mode (dropout off).

    A module without parameters of its own (dropout, activation) follows the module it is in.
    """
    parameters = list(module.parameters())
    module.training = any(p.requires_grad for p in parameters) if parameters else inherited
    for child in module.children():
        set_training_mode(child, module.training)
