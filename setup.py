"""What pyproject.toml cannot say: configs/ stands at the root, and inside the wheel as `cups/configs`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["cups*", "pseudo_labels*", "refs*", "studies*"]), "cups.configs"],
    package_dir={"cups.configs": "configs"},
    package_data={
        "": ["*.pyi"],
        "cups": ["classes/*.yaml", "data_sets/*.yaml"],
        "cups.configs": ["*.yaml", "bases/*.yaml"],
        "cups.model": ["*.yaml"],
        "refs": ["*.yaml", "spidepth/toy/*.pth", "spidepth/toy/*.json"],
    },
)
