"""The repository's address, and the two texts that carry it: the bootstrap cell and the Colab badge.

`python -m tools.set_repository OWNER/NAME` writes the address here and renews both texts in every notebook.
"""

from __future__ import annotations

REPOSITORY = ""

BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
BOOTSTRAP_ID = "bootstrap"
INSTALLED = ("memory_profiler",)  # all that the labs need and Colab lacks (colab-packages.txt)
BOOTSTRAP = """\
# On Colab this cell fetches the course. Anywhere else it does nothing.
import os
import subprocess
import sys

REPOSITORY = "{repository}"
if "google.colab" in sys.modules:
    Stop = type("Stop", (Exception,), {{"_render_traceback_": lambda stop: [str(stop)]}})  # shown as one line
    if not REPOSITORY:
        raise Stop("The course has no address yet: run python -m tools.set_repository OWNER/NAME and push.")
    url, course = f"https://github.com/{{REPOSITORY}}", f"/content/{{REPOSITORY.split('/')[1]}}"
    clone = ["git", "clone", "--quiet", "--depth=1", url, course]
    if not os.path.isdir(course) and subprocess.run(clone, capture_output=True).returncode:
        raise Stop(f"Could not fetch {{url}}: check the network, then run this cell again.")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, {installed}], check=True)
    sys.path.insert(0, course)
    os.chdir(f"{{course}}/notebooks")"""


def bootstrap(repository: str = REPOSITORY) -> str:
    """The source of the bootstrap cell, the same in every notebook.

    The clone is shallow and made once. pip installs what Colab lacks, which is pure Python, and none of its
    dependencies: torch, numpy and ipywidgets stay as Colab ships them.
    """
    return BOOTSTRAP.format(repository=repository, installed=", ".join(f'"{name}"' for name in INSTALLED))


def badge(notebook: str, repository: str = REPOSITORY) -> str:
    """The Markdown of the badge that opens the named notebook on Colab; empty while there is no address.

    >>> badge("00_start_here.ipynb", "owner/name").rpartition("(")[2]
    'https://colab.research.google.com/github/owner/name/blob/main/notebooks/00_start_here.ipynb)'
    """
    if not repository:
        return ""
    address = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{notebook}"
    return f"[![Open in Colab]({BADGE})]({address})"
