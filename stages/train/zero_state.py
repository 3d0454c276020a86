"""Reads and sets whole tensors of a training state, wherever a ZeRO stage has put their parts.

stage 0     every rank holds everything
stage 1, 2  every rank holds all weights; of master weights and moments it holds a range of elements
stage 3     every rank holds an equal range of every tensor, the last ones padded

What is set takes effect in the weights that the next forward pass uses and in the copy that the
optimiser steps. Only `weight` and `moment` may exchange data between ranks: all of them must ask.
"""

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")


class StateAccess(Protocol):
    """Access to whole tensors."""

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole parameter; it may be the live one."""

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set the whole parameter, the same on every rank."""

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """One of Adam's `MOMENTS` of a parameter, whole; it may be the live one."""

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set one of Adam's moments, the same on every rank."""


class ReplicatedState:
    """Stage 0."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._states = optimiser.state

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The live parameter."""
        return parameter.data

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Copy into the live parameter."""
        if value.data_ptr() != parameter.data_ptr():
            parameter.data.copy_(value)

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """The live moment."""
        moment: Tensor = self._states[parameter][name]
        return moment

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Copy into the live moment."""
        self._states[parameter][name].copy_(value)


class Zero12State:
    """Stages 1 and 2; `api` is deepspeed.utils."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The live weights, which equal the master weights: both are float32."""
        return parameter.data

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set this rank's range of the master weights, and the live weights."""
        self._api.safe_set_full_fp32_param(parameter, value)
        if value.data_ptr() != parameter.data_ptr():
            parameter.data.copy_(value)

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """Gathered from all ranks."""
        moment: Tensor = self._api.safe_get_full_optimizer_state(parameter, name)
        return moment

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set this rank's range."""
        self._api.safe_set_full_optimizer_state(parameter, value, name)


class Zero3State:
    """Stage 3; `api` is deepspeed.utils."""

    def __init__(self, api: Any) -> None:
        self._api = api

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """Gathered from all ranks."""
        weight: Tensor = self._api.safe_get_full_fp32_param(parameter)
        return weight

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set this rank's part of the master weights and of the weights."""
        part = _padded_part(parameter, value)
        self._api.safe_set_local_fp32_param(parameter, part)
        parameter.ds_tensor.data.copy_(part.view_as(parameter.ds_tensor))  # type: ignore[attr-defined]
        if parameter.shape == value.shape:  # small ones stay whole on every rank
            parameter.data.copy_(value)

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """Gathered from all ranks."""
        moment: Tensor = self._api.safe_get_full_optimizer_state(parameter, name)
        return moment

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set this rank's part."""
        part = _padded_part(parameter, value)
        self._api.safe_set_local_optimizer_state(parameter, part, name)


def _padded_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's part of a tensor; DeepSpeed's own setter raises where the ranks do not divide it.

    Every rank's part has the same length, so the last ones reach past the end: zeros there.
    """
    length = parameter.ds_tensor.numel()
    padded = value.new_zeros(length * dist.get_world_size())
    padded[: value.numel()] = value.flatten()
    return padded.narrow(0, length * dist.get_rank(), length)
