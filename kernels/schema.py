"""What torch knows of each operator: its schema, shapes, gradient and reference kernel.

The schemas take 2-D tensors only; `kernels.ops` brings every layout to them. ``output_mask`` says
which of the gradients are wanted: an unwanted one comes back empty and costs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kernels import reference, sparse_reference

OPERATORS = torch.ops.supnorm

_SCHEMAS = (
    "lp_distance(Tensor x, Tensor weight, float p, int groups) -> Tensor",
    "lp_distance_backward(Tensor grad, Tensor x, Tensor weight, Tensor distance, float p, "
    "int groups, bool[2] output_mask) -> (Tensor, Tensor)",
    "linf_distance(Tensor x, Tensor weight, int groups) -> Tensor",
    "linf_distance_argmax(Tensor x, Tensor weight, int groups) -> (Tensor, Tensor)",
    "linf_distance_backward(Tensor grad, Tensor x, Tensor weight, Tensor argmax, int groups, "
    "bool[2] output_mask) -> (Tensor, Tensor)",
    "linf_distance_bounds(Tensor lower, Tensor upper, Tensor weight, int groups) "
    "-> (Tensor, Tensor)",
    "sparse_linf_distance(Tensor x, Tensor values, Tensor columns, Tensor starts, Tensor floor) "
    "-> Tensor",
    "sparse_linf_distance_argmax(Tensor x, Tensor values, Tensor columns, Tensor starts, "
    "Tensor floor) -> (Tensor, Tensor)",
    "sparse_linf_distance_backward(Tensor grad, Tensor x, Tensor values, Tensor columns, "
    "Tensor deciding, bool[2] output_mask) -> (Tensor, Tensor)",
    "sparse_linf_distance_bounds(Tensor lower, Tensor upper, Tensor values, Tensor columns, "
    "Tensor starts, Tensor floor) -> (Tensor, Tensor)",
    "sparse_linf_stack(Tensor x, Tensor values, Tensor columns, Tensor starts, Tensor floor, "
    "Tensor offset, Tensor widths, int shift) -> Tensor",
)


# What each operator returns, without data ("fake" kernels): torch.compile and export ask for it.


def _distance_shape(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _argmax_shapes(x: Tensor, weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    distance = _distance_shape(x, weight)
    return distance, torch.empty_like(distance, dtype=torch.int32)


def _bounds_shapes(lower: Tensor, upper: Tensor, weight: Tensor, groups: int) -> tuple[Tensor, ...]:
    return _distance_shape(lower, weight), _distance_shape(lower, weight)


def _sparse_shape(x: Tensor, *rows: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], rows[-1].shape[0])


def _sparse_argmax_shapes(x: Tensor, *rows: Tensor) -> tuple[Tensor, Tensor]:
    distance = _sparse_shape(x, *rows)
    return distance, torch.empty_like(distance, dtype=torch.int32)


def _sparse_bounds_shapes(lower: Tensor, upper: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
    return _sparse_shape(lower, *rows), _sparse_shape(lower, *rows)


def _sparse_stack_shape(x: Tensor, values: Tensor, *stack: Any) -> Tensor:
    # How many outputs the last layer has is data, which a fake tensor does not have.
    num_outputs = torch.library.get_ctx().new_dynamic_size()
    return values.new_empty(x.shape[0], num_outputs)


def _gradient_shapes(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    output_mask = arguments[-1]
    pairs = zip(arguments[: len(output_mask)], output_mask, strict=True)
    return tuple(x.new_empty(x.shape if wanted else (0,)) for x, wanted in pairs)


# Gradients. An unwanted gradient is None for autograd.


def _lp_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.p, ctx.groups = inputs
    ctx.save_for_backward(x, weight, output)


def _lp_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, distance = ctx.saved_tensors
    mask = list(ctx.needs_input_grad[:2])
    gradients = OPERATORS.lp_distance_backward(grad, x, weight, distance, ctx.p, ctx.groups, mask)
    return *_wanted(gradients, mask), None, None


def _linf_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.groups = inputs
    ctx.save_for_backward(x, weight)


def _linf_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    mask = list(ctx.needs_input_grad[:2])
    # The plain operator keeps no arg-max: who knows that a gradient will come asks for it at once.
    _, argmax = OPERATORS.linf_distance_argmax(x, weight, ctx.groups)
    gradients = OPERATORS.linf_distance_backward(grad, x, weight, argmax, ctx.groups, mask)
    return *_wanted(gradients, mask), None


def _linf_argmax_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, ctx.groups = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])


def _linf_argmax_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, argmax = ctx.saved_tensors
    mask = list(ctx.needs_input_grad[:2])
    gradients = OPERATORS.linf_distance_backward(grad, x, weight, argmax, ctx.groups, mask)
    return *_wanted(gradients, mask), None


def _sparse_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _sparse_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    _, deciding = OPERATORS.sparse_linf_distance_argmax(*ctx.saved_tensors)
    return _sparse_gradients(ctx, grad, *ctx.saved_tensors[:3], deciding)


def _sparse_argmax_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3], output[1])
    ctx.mark_non_differentiable(output[1])


def _sparse_argmax_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return _sparse_gradients(ctx, grad, *ctx.saved_tensors)


def _sparse_gradients(ctx: Any, grad: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
    mask = list(ctx.needs_input_grad[:2])
    gradients = OPERATORS.sparse_linf_distance_backward(grad, *saved, mask)
    return *_wanted(gradients, mask), None, None, None


def _wanted(gradients: tuple[Tensor, ...], output_mask: list[bool]) -> tuple[Tensor | None, ...]:
    pairs = zip(gradients, output_mask, strict=True)
    return tuple(grad if wanted else None for grad, wanted in pairs)


def _masked(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """Give a reference gradient the argument ``output_mask``."""

    def kernel(*arguments: Any) -> tuple[Tensor, ...]:
        *inputs, output_mask = arguments
        pairs = zip(function(*inputs), output_mask, strict=True)
        return tuple(grad if wanted else grad.new_empty(0) for grad, wanted in pairs)

    return kernel


REFERENCE_KERNELS: dict[str, Callable[..., Any]] = {
    "lp_distance": reference.lp_distance,
    "lp_distance_backward": _masked(reference.lp_distance_backward),
    "linf_distance": reference.linf_distance,
    "linf_distance_argmax": reference.linf_distance_argmax,
    "linf_distance_backward": _masked(reference.linf_distance_backward),
    "linf_distance_bounds": reference.linf_distance_bounds,
    "sparse_linf_distance": sparse_reference.sparse_linf_distance,
    "sparse_linf_distance_argmax": sparse_reference.sparse_linf_distance_argmax,
    "sparse_linf_distance_backward": _masked(sparse_reference.sparse_linf_distance_backward),
    "sparse_linf_distance_bounds": sparse_reference.sparse_linf_distance_bounds,
    "sparse_linf_stack": sparse_reference.sparse_linf_stack,
}
_FAKES: dict[str, Callable[..., Any]] = {
    "lp_distance": _distance_shape,
    "lp_distance_backward": _gradient_shapes,
    "linf_distance": _distance_shape,
    "linf_distance_argmax": _argmax_shapes,
    "linf_distance_backward": _gradient_shapes,
    "linf_distance_bounds": _bounds_shapes,
    "sparse_linf_distance": _sparse_shape,
    "sparse_linf_distance_argmax": _sparse_argmax_shapes,
    "sparse_linf_distance_backward": _gradient_shapes,
    "sparse_linf_distance_bounds": _sparse_bounds_shapes,
    "sparse_linf_stack": _sparse_stack_shape,
}
_GRADIENTS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "lp_distance": (_lp_backward, _lp_setup),
    "linf_distance": (_linf_backward, _linf_setup),
    "linf_distance_argmax": (_linf_argmax_backward, _linf_argmax_setup),
    "sparse_linf_distance": (_sparse_backward, _sparse_setup),
    "sparse_linf_distance_argmax": (_sparse_argmax_backward, _sparse_argmax_setup),
}
_IN_FLOAT32 = (*_GRADIENTS, "linf_distance_bounds")
"""The operators that autocast runs in float32."""


@functools.cache
def define_operators() -> Any:
    """Make ``torch.ops.supnorm`` known to torch, with the reference behind every operator.

    Returns:
        The library; the operators live as long as it does.
    """
    library: Any = torch.library.Library("supnorm", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)
    for name, kernel in REFERENCE_KERNELS.items():
        # This key serves every device that has no kernel of its own.
        library.impl(name, kernel, "CompositeExplicitAutograd")
        torch.library.register_fake(f"supnorm::{name}", _FAKES[name], lib=library)
    for name, (backward, setup) in _GRADIENTS.items():
        torch.library.register_autograd(
            f"supnorm::{name}", backward, setup_context=setup, lib=library
        )
    for name in _IN_FLOAT32:
        for device in ("cpu", "cuda"):
            torch.library.register_autocast(f"supnorm::{name}", device, torch.float32, lib=library)
    return library
