"""What a chapter defines, taken from the notebook itself: the network that is measured is the one that is read."""

import ast
import re
from pathlib import Path

import keras
import nbformat

BOOK = Path(__file__).parent.parent / "book"
DEFINITIONS = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef


def path_of(number):
    """The notebook of chapter "06"; a LookupError if there is none."""
    found = sorted(BOOK.glob(f"{number}_*.ipynb"))
    if not found:
        raise LookupError(f"the book has no chapter {number}")
    return found[0]


def definitions(number, *names):
    """What the chapter's imports, functions, classes and constants define, as a dictionary.

    Assignments to `names` are run as well, in their place, so that a function which is defined twice is there the one
    that the chapter means. Nothing else is run: nothing trains, prints or draws.

    Raises
    ------
    LookupError
        There is no such chapter, or it assigns to none of these names.
    """
    namespace = {"__name__": f"chapter_{number}"}
    keras.utils.set_random_seed(0)
    for node in _statements(number):
        wanted = _targets(node) & set(names)
        if wanted or isinstance(node, DEFINITIONS) or _is_constant(node):
            try:
                exec(compile(ast.Module([node], []), f"chapter {number}", "exec"), namespace)
            except NameError:    # a function whose defaults are data or trained models, which are not there
                if wanted:
                    raise
    if missing := set(names) - set(namespace):
        raise LookupError(f"chapter {number} does not assign to {', '.join(sorted(missing))}")
    return namespace


def keywords(number, function, first):
    """The constants that the chapter passes by name where it calls `function(first, ...)`, or a LookupError."""
    call = f"{function}({first}, "
    for statement in _statements(number):
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and ast.unparse(node).startswith(call):
                return {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
    raise LookupError(f"chapter {number} does not call {call}...)")


def _statements(number):
    for cell in nbformat.read(path_of(number), as_version=4).cells:
        if cell.cell_type == "code":
            source = re.sub(r"^(\s*)[%!]\w.*$", r"\1pass", cell.source, flags=re.MULTILINE)    # IPython's commands
            yield from ast.parse(source).body


def _targets(node):
    if not isinstance(node, ast.Assign):
        return set()
    return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _is_constant(node):
    try:
        return isinstance(node, ast.Assign) and (ast.literal_eval(node.value), True)[1]
    except ValueError:
        return False
