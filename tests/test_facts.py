"""Facts travel as typed fields. `history`, `notes` and `warnings` are sentences for people: no code searches them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for name in ("recon", "learned", "simulate", "app") for path in sorted((ROOT / name).rglob("*.py"))]
SENTENCES = {"history", "notes", "warnings"}
SEARCHES = {"startswith", "endswith", "find", "index", "count", "split", "partition", "rpartition", "removeprefix"}


def holds_sentences(node: ast.AST) -> bool:
    """True for `notes`, `study.warnings`, `tuple(result.notes)` and `(*study.history, *notes)`."""
    if isinstance(node, ast.Name):
        return node.id in SENTENCES
    if isinstance(node, ast.Attribute):
        return node.attr in SENTENCES
    if isinstance(node, ast.Starred):
        return holds_sentences(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(holds_sentences(one) for one in node.elts)
    return isinstance(node, ast.Call) and any(holds_sentences(one) for one in node.args)


def is_fixed_text(node: ast.AST) -> bool:
    """True for a literal, an f-string and a constant's name: a variable is looked up to add a sentence only once."""
    return isinstance(node, ast.Constant | ast.JoinedStr) or (isinstance(node, ast.Name) and node.id.isupper())


def searches(source: str) -> list[int]:
    """Lines on which code looks for words in sentences, or for a fixed sentence among them."""
    tree = ast.parse(source)
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.comprehension)]
    sentences = {
        name.id
        for loop in loops
        if holds_sentences(loop.iter)
        for name in ast.walk(loop.target)
        if isinstance(name, ast.Name)
    }
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            place = node.comparators[0]
            in_a_sentence = isinstance(place, ast.Name) and place.id in sentences
            if in_a_sentence or (holds_sentences(place) and is_fixed_text(node.left)):
                lines.add(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if not isinstance(owner, ast.Name):
                continue
            read = {one.id for one in node.args if isinstance(one, ast.Name)}
            by_method = owner.id in sentences and node.func.attr in SEARCHES
            if by_method or (owner.id == "re" and read & sentences):
                lines.add(node.lineno)
    return sorted(lines)


@pytest.mark.parametrize(
    "code",
    [
        "any('foci alone' in warning for warning in outline.warnings)",
        "'scatter: none' in image.history",
        "[note for note in (*study.warnings, *result.notes) if note.startswith('uniform')]",
        "for line in history:\n    if re.search('dew', line):\n        pass",
        "if NARROW_BEAM not in result.notes:\n    pass",
    ],
)
def test_the_search_finds_what_it_is_for(code):
    assert searches(code)


@pytest.mark.parametrize(
    "code",
    [
        "notes = (*study.warnings, *solver.notes)",
        "[hide(line) for line in study.warnings]",
        "if text not in self.warnings:\n    self.warnings.append(text)",
        "outline.kind == 'standard head'",
        "warnings.catch_warnings(action='ignore')",
    ],
)
def test_passing_sentences_on_is_no_search(code):
    assert searches(code) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_searches_sentences(path):
    found = searches(path.read_text(encoding="utf-8"))
    assert found == [], f"{path.relative_to(ROOT)} searches history, notes or warnings: make the fact a typed field"
