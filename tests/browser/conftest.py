"""One browser and one JupyterLab for all tests of a worker: to start them takes longer than most notebooks."""

import shutil

import pytest

from tools.browser import JupyterLab, start_browser, start_jupyterlab
from tools.normal_form import NOTEBOOKS


@pytest.fixture(scope="session")
def browser(browser_path):
    with start_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A folder with copies of the notebooks, so that the tree stays as it is."""
    root = tmp_path_factory.mktemp("root")
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, root)
    return root


@pytest.fixture(scope="session")
def jupyterlab(browser, root):
    with start_jupyterlab(root) as address:
        yield JupyterLab(browser, address)
