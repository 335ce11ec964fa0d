"""The two block formats of the packaged GGUF file, read into numpy.

Each block holds 32 neighbouring weights of one row. Format: ggml's block_q8_0 and block_q4_1,
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 32


STEPS = np.arange(8, 18, dtype=np.float32)
"""Into how many 8-bit steps one 4-bit step may be divided: 15 * 17 is 255, the largest 8-bit number."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight matrix of the shape (rows, columns): weight = (values - zero_points) * scales."""

    values: npt.NDArray[np.uint8]
    """(rows, blocks of a row, numbers of a block)."""
    scales: npt.NDArray[np.float32]
    """(rows, blocks of a row)."""
    zero_points: npt.NDArray[np.uint8]
    """(rows, blocks of a row)."""

    @property
    def rows(self) -> int:
        return int(self.values.shape[0])

    @property
    def columns(self) -> int:
        return int(self.values.shape[1] * self.block)

    @property
    def block(self) -> int:
        return int(self.values.shape[2])


def from_q8_0(raw: npt.NDArray[np.uint8]) -> Quantized:
    """Exactly the same numbers. `raw`: (rows, bytes), a block is a float16 scale and 32 int8."""
    blocks = raw.reshape(len(raw), -1, 2 + BLOCK)
    values = blocks[..., 2:] ^ np.uint8(0x80)  # int8 to the same number plus 128
    scales = _halves(blocks[..., :2])
    return Quantized(values, scales, np.full(scales.shape, 128, np.uint8))


def from_q4_1(raw: npt.NDArray[np.uint8]) -> Quantized:
    """Nearly the same numbers as weight = scale * q + least, with q in 4 bits.

    `raw`: (rows, bytes); a block is two float16 and 16 bytes, whose low halves are its first 16 q.

    A scale divided by a whole number of steps represents every q exactly; only `least` is rounded
    to a step, and the number of steps is the one that rounds it best. Blocks without a zero
    between their ends have no such form and are rounded number by number.
    """
    blocks = raw.reshape(len(raw), -1, 4 + BLOCK // 2)
    scale, least, packed = _halves(blocks[..., :2]), _halves(blocks[..., 2:4]), blocks[..., 4:]
    q = np.concatenate([packed & 0x0F, packed >> 4], axis=-1)
    steps, zero_points, possible = _divide(scale, least)
    rounded = quantize(scale[..., None] * q + least[..., None])
    return Quantized(
        np.where(possible[..., None], q * steps[..., None].astype(np.uint8), rounded.values),
        np.where(possible, scale / steps, rounded.scales),
        np.where(possible, zero_points, rounded.zero_points).astype(np.uint8),
    )


def _divide(scale: npt.NDArray, least: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """For each block the best number of steps, its zero point, and whether it has one at all."""
    zero = np.divide(-least, scale, out=np.full_like(scale, -1), where=scale != 0)
    candidates = zero[..., None] * STEPS
    errors = np.abs(candidates - np.rint(candidates)) / STEPS
    best = errors.argmin(axis=-1)
    zero_points = np.rint(zero * STEPS[best])
    return STEPS[best], zero_points, (zero_points >= 0) & (zero_points <= 255)


def quantize(blocks: npt.NDArray[np.float32]) -> Quantized:
    """The nearest 8-bit numbers around zero, one scale for each block. `blocks`: (rows, blocks, 32)."""
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    scales[scales == 0] = 1  # A block of zeros.
    values = np.rint(blocks / scales[..., None]) + 128
    return Quantized(values.astype(np.uint8), scales.astype(np.float32), np.full(scales.shape, 128, np.uint8))


def widen(matrix: Quantized) -> Quantized:
    """Every two neighbouring blocks made one, its numbers rounded again, with a zero point of its own."""
    weights = (matrix.values - matrix.zero_points[..., None].astype(np.float32)) * matrix.scales[..., None]
    blocks = weights.reshape(matrix.rows, -1, 2 * matrix.block)
    least, most = blocks.min(axis=-1).clip(max=0), blocks.max(axis=-1).clip(min=0)
    scales = (most - least) / np.float32(255)
    scales[scales == 0] = 1  # A block of zeros.
    zero_points = np.rint(-least / scales)
    values = np.rint(blocks / scales[..., None] + zero_points[..., None]).clip(0, 255)
    return Quantized(values.astype(np.uint8), scales, zero_points.astype(np.uint8))


def stack(matrices: list[Quantized]) -> Quantized:
    """Matrices of the same width under one another, so that one product computes all of them."""
    return Quantized(
        np.concatenate([matrix.values for matrix in matrices]),
        np.concatenate([matrix.scales for matrix in matrices]),
        np.concatenate([matrix.zero_points for matrix in matrices]),
    )


def halves_apart(matrix: Quantized, heads: int) -> Quantized:
    """Undo GGUF's order of the query's and the key's rows.

    GGUF puts the two numbers that rotary embedding turns together next to each other; the models
    of Hugging Face, and the adapters made for them, have them half a head apart.
    """
    return Quantized(
        _rows_apart(matrix.values, heads),
        _rows_apart(matrix.scales, heads),
        _rows_apart(matrix.zero_points, heads),
    )


def _rows_apart(array: npt.NDArray, heads: int) -> npt.NDArray:
    rest = array.shape[1:]
    return array.reshape(heads, -1, 2, *rest).swapaxes(1, 2).reshape(-1, *rest)


def _halves(two_bytes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(two_bytes).view("<f2")[..., 0].astype(np.float32)
