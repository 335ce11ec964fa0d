"""Files of models, adapters and checkpoints are data: no line of the site lets one of them run."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = ("accounts", "bench", "embeddings", "feedback", "inference", "llmsite", "training")


def sources() -> Iterator[Path]:
    return (path for app in APPS for path in sorted((ROOT / app).rglob("*.py")) if "tests" not in path.parts)


def calls(path: Path) -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """The calls of a module: what is called, as it stands there, and its named arguments."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: word.value for word in node.keywords if word.arg}


def is_constant(value: ast.expr | None, wanted: object) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


def complaints(path: Path) -> Iterator[str]:
    for name, words in calls(path):
        where = f"{path.relative_to(ROOT)}: {name}"
        if name in ("pickle.load", "pickle.loads", "joblib.load", "dill.load", "marshal.loads"):
            yield where
        if name == "torch.load" and not is_constant(words.get("weights_only"), True):
            yield f"{where} without weights_only=True"
        if name.endswith("np.load") and not is_constant(
            words.get("allow_pickle", ast.Constant(False)), False
        ):
            yield f"{where} with allow_pickle"
        if "trust_remote_code" in words and not is_constant(words["trust_remote_code"], False):
            yield f"{where} with trust_remote_code"


def test_no_line_loads_code_from_a_file():
    found = [complaint for path in sources() for complaint in complaints(path)]
    assert found == []


def test_the_search_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    bad = (
        "pickle.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)",
        "torch.load(f, weights_only=x)", "np.load(f, allow_pickle=True)",
        "A.from_pretrained(p, trust_remote_code=True)",
    )  # fmt: skip
    good = ("torch.load(f, weights_only=True)", "np.load(f)", "A.from_pretrained(p, trust_remote_code=False)")
    for lines, expected in ((bad, len(bad)), (good, 0)):
        path = tmp_path / "module.py"
        path.write_text("\n".join(lines))
        assert len(list(complaints(path))) == expected
