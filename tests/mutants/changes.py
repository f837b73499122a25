"""Small changes of a module's code, one at a time: each is a fault that a unit test should find."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

_OTHERS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
# Of texts only those are changed that something is compared with or matched by; the others are
# messages, and names that types or other modules hold.
_MATCHING = frozenset(
    (
        *("compile", "fullmatch", "match", "search", "finditer", "sub"),
        *("startswith", "endswith", "split", "partition", "rpartition", "replace", "rstrip"),
    )
)
_LONGEST = 70  # of what is shown of an expression


@dataclass(frozen=True)
class Mutant:
    """One change: of the node that ``ast.walk`` comes to as number ``place``."""

    module: str
    words: str  # where and what, without a line's number: it holds when lines move
    function: int  # the line that the innermost function around it begins at, 0 outside of any
    place: int
    change: int  # of those of that node

    def code(self, source: str, path: str) -> CodeType:
        """Return the module's code with the change."""
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        node = nodes[self.place]
        changed = list(_changes(node, _parents(tree)))[self.change]
        mutated = _Swap(node, changed).visit(tree)
        assert isinstance(mutated, ast.Module)
        code: CodeType = compile(ast.fix_missing_locations(mutated), path, "exec")
        return code


def of_module(module: str, source: str) -> list[Mutant]:
    """Return every change of a module, in the order of its text."""
    tree = ast.parse(source)
    parents, told = _parents(tree), _told(tree)
    found = []
    for place, node in enumerate(ast.walk(tree)):
        if node in told:
            continue
        for number, changed in enumerate(_changes(node, parents)):
            around = list(_functions(node, parents))
            name = ".".join([module, *(node.name for node in reversed(around))])
            innermost = [node for node in around if not isinstance(node, ast.ClassDef)][:1]
            words = f"{name}: {_shown(node, changed, parents)}"
            begin = min((_begin(node) for node in innermost), default=0)
            line = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
            found.append((line, Mutant(module, words, begin, place, number)))
    return _numbered([mutant for _, mutant in sorted(found, key=lambda change: change[0])])


def _numbered(mutants: list[Mutant]) -> list[Mutant]:
    """Give those of the same words a number."""
    seen: Counter[str] = Counter()
    result = []
    for mutant in mutants:
        seen[mutant.words] += 1
        words = (
            mutant.words if seen[mutant.words] == 1 else f"{mutant.words} ({seen[mutant.words]})"
        )
        result.append(Mutant(mutant.module, words, mutant.function, mutant.place, mutant.change))
    return result


_Named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {inner: node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}


def _functions(
    node: ast.AST, parents: dict[ast.AST, ast.AST]
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the functions and classes around ``node``, the innermost first."""
    while node in parents:
        child, node = node, parents[node]
        # What a function's head holds is reckoned where it is defined.
        if isinstance(node, _Named) and child in node.body:
            yield node


def _begin(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Return the line that a code object names as its first."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _told(tree: ast.AST) -> set[ast.AST]:
    """Return what only tells of types: annotations, decorators."""
    heads: list[ast.AST | None] = []
    for node in ast.walk(tree):
        heads += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        heads += getattr(node, "decorator_list", [])
    return {inner for head in heads if head is not None for inner in ast.walk(head)}


def _changes(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """Yield what may stand in the place of ``node``."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _OTHERS[type(operator)]:
                changed = copy.copy(node)
                changed.ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                yield changed
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _ARITHMETIC:
        changed_sum = copy.copy(node)
        changed_sum.op = _ARITHMETIC[type(node.op)]()
        yield changed_sum
    elif isinstance(node, ast.Raise):
        yield ast.Pass()
    elif isinstance(node, ast.Constant):
        yield from _constants(node, parents)


def _constants(node: ast.Constant, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
    elif isinstance(node.value, str) and _decides(node, parents):
        yield ast.Constant(f"{node.value}~")


def _decides(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Tell whether something is compared with a text, or matched by it."""
    around = parents[node]
    if isinstance(around, (ast.Tuple, ast.List, ast.Set)):
        around = parents[around]
    if isinstance(around, ast.Call):
        function = around.func
        return isinstance(function, ast.Attribute) and function.attr in _MATCHING
    return isinstance(around, ast.Compare)


def _shown(node: ast.AST, changed: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    if isinstance(changed, ast.Pass):
        return f"{_short(node)} -> pass"
    around = parents[node]
    while isinstance(around, ast.Slice):
        around = parents[around]
    if isinstance(node, ast.Constant) and len(ast.unparse(around)) <= _LONGEST:
        swapped = _Swap(node, changed).visit(around)
        return f"{_short(around)} -> {_short(swapped)}"
    return f"{_short(node)} -> {_short(changed)}"


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class _Swap(ast.NodeTransformer):
    """Puts one node in the place of another; the tree that it is given stays as it is."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._old:
            return self._new
        fields: dict[str, object] = {}
        for name, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                fields[name] = self.visit(value)
            elif isinstance(value, list):
                fields[name] = [
                    self.visit(item) if isinstance(item, ast.AST) else item for item in value
                ]
            else:
                fields[name] = value
        return ast.copy_location(type(node)(**fields), node)
