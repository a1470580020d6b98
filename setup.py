"""Maps folders to packages; everything else about the distribution is in pyproject.toml.

`launch/` and `experiments/` install as `lm_launch` and `lm_experiments`, so that a wheel claims no
top-level name that another distribution may use. From the repository root they go by their folder
names; their modules import each other relatively, and so work under both.
"""

from setuptools import find_packages, setup

FOLDERS = {'lm': 'lm', 'launch': 'lm_launch', 'experiments': 'lm_experiments'}

setup(
    package_dir={package: folder for folder, package in FOLDERS.items()},
    packages=[
        name
        for folder, package in FOLDERS.items()
        for name in [package, *(f'{package}.{inner}' for inner in find_packages(folder))]
    ],
)
