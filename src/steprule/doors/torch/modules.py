"""Which parameters of a module are matrices: by the types of the modules that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from steprule.doors.routes import has_head, is_matrix, says_embedding

__all__ = ["matrices_of"]


def matrices_of(model: nn.Module) -> Callable[[str, Tensor], bool]:
    """Return what tells whether a parameter of a model is a matrix.

    It is one if it has two dimensions, both longer than 1, and

    - no module that holds it is an embedding: an ``nn.Embedding`` or ``nn.EmbeddingBag``, or of a class whose name says
      embedding; so the weight of a head that is tied to an embedding is none. Nor is it a layer or RMS norm;
    - no module that holds it is the head: what the model's ``get_output_embeddings()`` returns (transformers has it),
      and modules whose path says head as ``steprule.doors.routes`` reads names (``lm_head``, ``classifier``, ...). If
      there is neither, the head is the last ``nn.Linear`` in the order of ``model.modules()``;
    - where no module of ``torch.nn`` holds it (a parameter of one's own class), its name says neither embedding, head,
      bias nor scale.

    So kernels of convolutions, which have more dimensions, are none; nor are vectors.
    """
    held = list(_held(model))
    others = {id(param) for _, module, param in held if _holds_no_matrix(module)} | _head(model, held)
    typed = {id(param) for _, module, param in held if type(module).__module__.startswith("torch.nn.")}

    def decide(name: str, param: Tensor) -> bool:
        if param.dim() != 2 or min(param.shape) < 2 or id(param) in others:
            return False
        return id(param) in typed or is_matrix(name, param)

    return decide


def _held(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield the parameters with the modules that hold them, and their paths: a shared one several times."""
    for path, module in model.named_modules(remove_duplicate=False):
        for param in module.parameters(recurse=False):
            yield path, module, param


def _holds_no_matrix(module: nn.Module) -> bool:
    """Whether it is an embedding, or scales each element."""
    kinds = nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm
    return isinstance(module, kinds) or says_embedding(type(module).__name__)


def _head(model: nn.Module, held: list[tuple[str, nn.Module, Tensor]]) -> set[int]:
    """Return the parameters of the head."""
    named = {id(param) for path, _, param in held if has_head(path)}
    for module in model.modules():
        told = getattr(module, "get_output_embeddings", None)
        head = told() if callable(told) else None
        named |= {id(param) for param in head.parameters()} if isinstance(head, nn.Module) else set()
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    return named or {id(param) for module in last for param in module.parameters(recurse=False)}
