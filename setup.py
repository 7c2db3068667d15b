"""What setup.cfg cannot say: configs/ stays at the top, and a wheel has it inside the packages that read it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["hpc*", "eegdecode*"]), "hpc.configs.site", "eegdecode.configs"],
    package_dir={"hpc.configs.site": "configs/site", "eegdecode.configs": "configs"},
)
