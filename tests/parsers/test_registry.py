"""What the registries hold, and what they say of a component that cannot be had."""

import pytest

import parsers
from parsers.registry import Registry
from pipeline import detectors


def announce(folder, **components):
    """Leaves in the folder what installing a package with these entry points leaves."""
    installed = folder / "toys-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
    lines = [f"{name} = {place}\n" for name, place in components.items()]
    (installed / "entry_points.txt").write_text("".join(["[tests.toys]\n", *lines]))


@pytest.fixture
def toys(tmp_path, monkeypatch):
    announce(tmp_path, good="toys:Toy", broken="toys_broken:Toy", stale="toys_stale:Toy")
    (tmp_path / "toys.py").write_text("class Toy:\n    def __init__(self, size=1):\n        self.size = size\n")
    (tmp_path / "toys_broken.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "toys_stale.py").write_text("raise RuntimeError('operator toys::nms does not exist')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return Registry("toy", "tests.toys")


def test_the_parsers_and_detectors_of_this_package_are_these():
    assert parsers.names() == ["dependency", "neural", "sng"]
    assert detectors.names() == ["torchvision", "toyworld", "vg-bottom-up"]


def test_the_folder_of_a_trained_parser_is_as_good_as_a_name(model, tmp_path):
    mine, shipped = parsers.get(str(model)), parsers.get("neural")
    assert mine.name == "neural"
    assert mine.version != shipped.version
    with pytest.raises(ValueError, match=r"holds no trained parser: .*config\.json is missing"):
        parsers.get(str(tmp_path))


def test_names_are_listed_without_importing_anything(toys):
    assert toys.names() == ["broken", "good", "stale"]


def test_a_component_is_built_with_its_options(toys):
    assert toys.get("good").size == 1
    assert toys.get("good", size=7).size == 7
    with pytest.raises(TypeError, match="colour"):
        toys.get("good", colour="red")


def test_an_unknown_name_is_refused_with_the_known_ones(toys):
    with pytest.raises(ValueError, match="there is no toy 'nobody'; installed are: broken, good, stale"):
        toys.get("nobody")
    with pytest.raises(ValueError, match="installed are: none"):
        Registry("toy", "tests.nothing").get("good")


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "No module named 'a_package_that_nobody_has'"), ("stale", "operator toys::nms")]
)
def test_a_missing_dependency_is_named_with_the_component_that_needs_it(toys, name, reason):
    with pytest.raises(ImportError, match=f"the toy '{name}' cannot be imported: {reason}"):
        toys.get(name)
