"""The frozen boundary: what enters the first trained layer is computed once for the whole run.

Where the lower layers stay as published (scenario ``last-layers``), every epoch would run them over
the same texts to the same result. Their output is kept on disk instead, and an epoch runs the upper
layers alone.

The upper layers are run by the backbone's own forward method, while its embeddings and lower layers
are taken out. They are not run by a loop over the layers, because layers need more than token
vectors: attention masks, ModernBERT's rotary angles, the relative positions of DeBERTa and MPNet.
Each model family makes these in its forward method. A loop would have to make them anew for each
family, by parts of transformers that are not public.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtl_core.model.encoder import SentenceEncoder, mask_for
from mtl_core.model.layers import transformer_layers
from mtl_core.model.network import BACKBONE_PREFIX, MultiTaskModel
from mtl_core.model.tokenizer import Tokenizer
from mtl_core.token_ids import TokenIds


def frozen_layers(model: MultiTaskModel, trained: Collection[str]) -> int:
    """How many of the backbone's layers lie below the first trained one, counted from the input.

    0 if nothing can be kept: no part of the backbone is trained, or its first layer is trained, or
    a part outside its layers is trained.
    """
    in_backbone = [name for name in trained if name.startswith(BACKBONE_PREFIX)]
    if not in_backbone:
        return 0
    layers = transformer_layers(model.encoder.backbone)
    ours = [{id(p) for p in layer.parameters()} for layer in layers]
    parameters = dict(model.named_parameters())
    changed = {id(parameters[name]) for name in in_backbone}
    if not changed <= set().union(*ours):
        return 0
    return next(index for index, layer in enumerate(ours) if layer & changed)


class UpperLayers:
    """The backbone from one layer upwards, fed with stored activations."""

    def __init__(self, encoder: SentenceEncoder, below: int) -> None:
        self.encoder, self.below = encoder, below
        backbone = encoder.backbone
        layers = transformer_layers(backbone)
        self._upper = nn.ModuleList(layers[below:])
        self._layers = _place_of(backbone, layers)
        embedding = backbone.get_input_embeddings()  # type: ignore[operator]
        self._embeddings = next(
            (backbone, name)
            for name, child in backbone.named_children()
            if any(module is embedding for module in child.modules())
        )

    def pool(self, activations: Tensor, mask: Tensor) -> Tensor:
        """Pooled vectors, float32 [B, H], of activations float32 [B, T, H]."""
        given = mask_for(self.encoder.backbone, mask)
        with self._cut():
            output = self.encoder.backbone(inputs_embeds=activations, attention_mask=given)
        return self.encoder.pool_states(output.last_hidden_state, mask)

    @contextmanager
    def _cut(self) -> Iterator[None]:
        """Take the embeddings and the lower layers out of the backbone for a while."""
        places = [self._layers, self._embeddings]
        whole = [getattr(*place) for place in places]
        try:
            for place, part in zip(places, (self._upper, _Through()), strict=True):
                setattr(*place, part)
            yield
        finally:
            for place, part in zip(places, whole, strict=True):
                setattr(*place, part)

    def agrees(self, tokenizer: Tokenizer, ids: TokenIds) -> bool:
        """Whether upper layers and whole backbone give the same pooled vectors for some texts.

        Not every architecture can be cut: some pass more than token vectors from layer to layer.
        """
        input_ids, mask = (t.to(self._device) for t in tokenizer.pad(ids))
        self.encoder.eval()
        with torch.inference_mode(), captured(self.encoder, self.below) as found:
            expected = self.encoder.pool(input_ids, mask)
            try:
                pooled = self.pool(found[0].float(), mask)
            except (TypeError, ValueError, RuntimeError, AttributeError):
                return False
        return bool(torch.allclose(pooled, expected, atol=1e-4))

    @property
    def _device(self) -> torch.device:
        return self.encoder.projection.weight.device


class _Through(nn.Module):
    """Stands in for the embeddings: returns the token vectors that it is given."""

    def forward(self, *args: Any, inputs_embeds: Tensor | None = None, **kwargs: Any) -> Tensor:
        given = [inputs_embeds, *args]
        found: Tensor = next(
            each for each in given if each is not None and each.is_floating_point()
        )
        return found


def _place_of(root: nn.Module, wanted: nn.Module) -> tuple[nn.Module, str]:
    """The module that holds ``wanted``, and the name of ``wanted`` in it."""
    return next(
        (parent, name)
        for parent in root.modules()
        for name, child in parent.named_children()
        if child is wanted
    )


@contextmanager
def captured(encoder: SentenceEncoder, layer: int) -> Iterator[list[Tensor]]:
    """Collect what enters a layer; it is the list's only element after a run of the backbone."""
    found: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[:] = [args[0] if args else kwargs["hidden_states"]]

    hook = transformer_layers(encoder.backbone)[layer].register_forward_pre_hook(
        note, with_kwargs=True
    )
    try:
        yield found
    finally:
        hook.remove()
