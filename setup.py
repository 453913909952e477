"""Builds the compiled half of the hot path where there is a compiler; all else is in setup.cfg."""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "gateway.compiled.express",
            ["gateway/compiled/express.pyx"],
            depends=glob("gateway/compiled/*.pxi"),
            optional=True,
        )
    ]
)
