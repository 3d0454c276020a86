"""A training step as a CUDA graph, replayed while p rises: one launch, not hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kernels.cuda.moving import MovingExponent, is_fixed, kernels_of


class CapturedStep:
    """Runs a step again and again, from the second time with the same kernels on as a graph.

    The kernels change 15 times while p rises from 8 to 1000 and infinity. The first step with other
    ones runs as it is, which compiles and loads them; the second is captured and replayed.

    Args:
        step: Computes with the norm it is given, on tensors that stay where they are: copy a batch
            into the tensor it reads, and the numbers of an optimiser (`kernels.cuda.adam`) into
            theirs. It must not wait for the GPU nor read from it, and sets gradients to None before
            it computes new ones.
        device: Where it computes.
    """

    def __init__(self, step: Callable[[float], None], device: torch.device) -> None:
        self._step = step
        self._device = device
        # Autograd remembers the stream of a weight's first gradient: all runs share one.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._kernels: tuple[float, ...] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._exponent: MovingExponent | None = None

    def run(self, p: float) -> None:
        """Run the step with norm p, in the order of the current stream; only a capture waits."""
        if kernels_of(p) != self._kernels:
            self._kernels, self._graph, self._exponent = kernels_of(p), None, None
            self._run_once(p)
            return
        if self._graph is None:
            self._graph = self._capture(p)
        if self._exponent is not None:
            self._exponent.move(p)
        self._graph.replay()

    def _run_once(self, p: float) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._step(p)
        current.wait_stream(self._stream)

    def _capture(self, p: float) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that load data, may go on.
        capture = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        if is_fixed(p):
            with capture:
                self._step(p)
            return graph
        self._exponent = MovingExponent(p, self._device)
        with self._exponent, capture:
            self._step(p)
        return graph
