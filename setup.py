"""Builds the compiled half of the hot path where there is a compiler; all else is in setup.cfg."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("gateway._express", ["gateway/_express.pyx"], optional=True)])
