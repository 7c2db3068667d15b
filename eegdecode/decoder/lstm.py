"""LSTMs in exported programs: as one operation, of which torch.export would trace each sample of a window otherwise.

While a network is traced, `eegdecode::lstm` stands for `aten::lstm`, with the same arguments. A .pt2 has the latter
again, so that torch alone runs it; an .onnx has ONNX's own LSTM.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch


@torch.library.custom_op("eegdecode::lstm", mutates_args=())
def opaque(
    input: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    out, h, c = torch.lstm(
        input, list(hx), list(params), has_biases, num_layers, dropout, train, bidirectional, batch_first
    )
    return out, h, c


@opaque.register_fake
def _(
    input: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n_directions = 2 if bidirectional else 1
    out = input.new_empty(*input.shape[:2], n_directions * hx[0].shape[2])
    return out, torch.empty_like(hx[0]), torch.empty_like(hx[1])


@contextmanager
def standing_in() -> Iterator[None]:
    """Within it, LSTMs of torch are traced as one operation."""
    with mock.patch.object(torch._VF, "lstm", opaque):
        yield


def as_aten(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with torch's own LSTM in the place of ours."""
    for node in program.graph.nodes:
        if node.target is torch.ops.eegdecode.lstm.default:
            node.target = torch.ops.aten.lstm.input
    program.graph_module.recompile()
    return program


def translations() -> dict[Any, Any]:
    """For torch.onnx.export: our operation as ONNX's LSTM."""
    return {torch.ops.eegdecode.lstm.default: _as_onnx}


def _as_onnx(
    input: Any,
    hx: Sequence[Any],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Any, Any, Any]:
    """Layer after layer; ONNX has [time, window, feature], and its gates are input, output, forget and cell."""
    from onnxscript import opset18 as op

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=values)

    def gates(of: Any) -> Any:
        i, f, g, o = op.Split(of, axis=0, num_outputs=4)
        return op.Concat(i, o, f, g, axis=0)

    def stacked(each: Sequence[Any]) -> Any:
        return op.Concat(*(op.Unsqueeze(one, ints(0)) for one in each), axis=0)

    n_directions, n_each = (2 if bidirectional else 1), (4 if has_biases else 2)
    x = op.Transpose(input, perm=[1, 0, 2]) if batch_first else input
    h_last, c_last = [], []
    for layer in range(num_layers):
        first = layer * n_directions
        own = [params[(first + k) * n_each : (first + k + 1) * n_each] for k in range(n_directions)]
        at = ints(first), ints(first + n_directions)
        bias = stacked([op.Concat(gates(p[2]), gates(p[3]), axis=0) for p in own]) if has_biases else None
        y, h, c = op.LSTM(
            x,
            stacked([gates(p[0]) for p in own]),
            stacked([gates(p[1]) for p in own]),
            bias,
            None,
            op.Slice(hx[0], *at, ints(0)),
            op.Slice(hx[1], *at, ints(0)),
            direction="bidirectional" if bidirectional else "forward",
            hidden_size=hx[0].shape[2],
        )
        y = op.Transpose(y, perm=[0, 2, 1, 3])  # [time, window, direction, feature]
        x = op.Reshape(y, ints(0, 0, -1))
        h_last.append(h)
        c_last.append(c)
    out = op.Transpose(x, perm=[1, 0, 2]) if batch_first else x
    return out, op.Concat(*h_last, axis=0), op.Concat(*c_last, axis=0)
