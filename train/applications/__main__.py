"""The applications, with a line each.

python -m train.applications
"""

import ast
from pathlib import Path


def titles() -> dict[str, str]:
    """The first line of each application's docstring, by its name."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    trees = {path.stem: ast.parse(path.read_text("utf-8")) for path in paths}
    applications = {name: tree for name, tree in trees.items() if any(_is_main(node) for node in tree.body)}
    return {name: (ast.get_docstring(tree) or "").split("\n")[0] for name, tree in applications.items()}


def _is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "main"


if __name__ == "__main__":
    for name, title in titles().items():
        print(f"python -m train.applications.{name}\n    {title}")
