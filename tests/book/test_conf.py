"""The settings of the HTML book that depend on pyproject.toml."""

import importlib.util
import shutil

import pytest

from tests.conftest import ROOT


def conf_of(folder, project):
    """book/conf.py as a module, beside a pyproject.toml with the given text; None: there is none."""
    (folder / "book").mkdir()
    shutil.copy(ROOT / "book" / "conf.py", folder / "book")
    if project is not None:
        (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("conf", folder / "book" / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("address", ["https://github.com/a/b", "https://github.com/a/b.git"])
def test_buttons_appear_with_the_repositorys_address(tmp_path, address):
    options = conf_of(tmp_path, f'[project.urls]\nRepository = "{address}"\n').html_theme_options
    assert options["repository_url"] == "https://github.com/a/b" and options["use_repository_button"]
    assert {"colab_url", "binderhub_url"} <= options["launch_buttons"].keys()
    assert (ROOT / options["path_to_docs"] / "04_trm_train.ipynb").exists(), "where the buttons lead"
    assert options["home_page_in_toc"], "the other options stay"


@pytest.mark.parametrize("project", [None, "", "[project.urls]\n", '[project.urls]\nRepository = ""\n'])
def test_without_an_address_there_are_no_buttons(tmp_path, project):
    options = conf_of(tmp_path, project).html_theme_options
    assert not {"repository_url", "use_repository_button", "launch_buttons"} & options.keys()
