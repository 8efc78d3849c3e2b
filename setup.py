"""For Beam's ``--setup_file ./setup.py``; everything but the license is declared in pyproject.toml.

Beam's workers build the sdist with the setuptools that they have: those before 77 refuse an SPDX license in
pyproject.toml, and those from 77 on call any other form of it deprecated.
"""

from setuptools import setup

setup(license="Apache-2.0")
