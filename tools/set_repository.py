"""Write the repository's address into the bootstrap cells and Colab badges of all notebooks and the README.

    python -m tools.set_repository OWNER/NAME

Run it again with another address after a move or a fork; running it twice changes nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from nbformat import NotebookNode

from tools.normal_form import NotANotebook, read, text_of
from tools.repository import BOOTSTRAP_ID, badge, bootstrap

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?/[A-Za-z0-9._-]{1,100}")  # GitHub's rules
BADGE = r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)"
PLACEHOLDER = "OWNER/NAME"


def set_in_notebook(notebook: NotebookNode, name: str, repository: str) -> None:
    """Renew the badge above the title and the bootstrap cell, in place."""
    title = re.sub(rf"^{BADGE}\s*", "", notebook.cells[0].source)
    notebook.cells[0].source = "\n\n".join(filter(None, [badge(name, repository), title]))
    for cell in notebook.cells:
        if cell.id == BOOTSTRAP_ID:
            cell.source = bootstrap(repository)


def set_in_readme(text: str, before: str, repository: str) -> str:
    """Renew the badge behind each `<!-- colab: NOTEBOOK -->` and the address of `git clone`."""
    text = re.sub(
        rf"<!-- colab: (\S+) -->(?:{BADGE})?",
        lambda match: f"<!-- colab: {match[1]} -->{badge(match[1], repository)}",
        text,
    )
    old, new = (f"https://github.com/{address or PLACEHOLDER}" for address in (before, repository))
    return re.sub(rf"{re.escape(old)}(?![\w-])", new, text)


def set_repository(repository: str, root: Path = ROOT) -> list[Path]:
    """Write the address everywhere under `root`, all files or none; returns the files that changed."""
    constant = root / "tools" / "repository.py"
    code = constant.read_text(encoding="utf-8")
    before = re.search(r'^REPOSITORY = "(.*)"$', code, re.MULTILINE)[1]
    texts = {constant: code.replace(f'\nREPOSITORY = "{before}"\n', f'\nREPOSITORY = "{repository}"\n', 1)}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = read(path)
        set_in_notebook(notebook, path.name, repository)
        texts[path] = text_of(notebook)
    readme = root / "README.md"
    texts[readme] = set_in_readme(readme.read_text(encoding="utf-8"), before, repository)

    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(texts[path], encoding="utf-8", newline="\n")
    return changed


def main(arguments: list[str] | None = None) -> int:
    summary = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m tools.set_repository", description=summary)
    parser.add_argument("repository", metavar=PLACEHOLDER, help="where the repository lives on GitHub")
    repository = parser.parse_args(arguments).repository
    if repository == PLACEHOLDER or not ADDRESS.fullmatch(repository):
        print(f"set_repository: {repository!r} is not an address of the form {PLACEHOLDER}.", file=sys.stderr)
        return 2
    try:
        changed = set_repository(repository)
    except NotANotebook as error:
        print(f"set_repository: {error}", file=sys.stderr)
        return 1
    for path in changed:
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
