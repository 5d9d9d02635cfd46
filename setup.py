"""Packaging of bnpipe.

Everything here is static on purpose: building needs no network, no git and no import of the
project. The ranges are the ones that the test suite runs within; `requirements.lock` holds the
exact versions with their hashes (`make lock` writes it anew).

In the repository the four folders lie side by side; installed, they are `bnpipe.pipeline`,
`bnpipe.components`, `bnpipe.serving` and `bnpipe.data`, and nothing else gets a name. `bnpipe` has
no `__init__.py`: it is a namespace.
"""

from setuptools import find_packages, setup

INSTALL_REQUIRES = [
    # The frameworks, each within the minor series that the pipeline is tested with.
    "tensorflow>=2.21,<2.22",
    "keras>=3.15.1,<3.16",
    "tensorflow-datasets>=4.9.10,<5",
    "importlib_resources>=6,<8",  # Not imported here: TFDS 4.9.10 does, without requiring it.
    "apache-beam>=2.77,<2.78",
    "tensorflow-model-analysis>=0.52,<0.53",
    "tensorflow-metadata>=1.21,<1.22",
    "tensorflow-serving-api>=2.19,<2.20",  # tfx-bsl 1.21, which TFMA needs, wants it below 2.20.
    # Arrays, files and wire formats.
    "numpy>=2.1,<3",
    "scipy>=1.14,<2",
    "h5py>=3.12,<4",
    "google-crc32c>=1.6,<2",
    "protobuf>=6.31,<7",
    "grpcio>=1.71,<2",
    "fsspec>=2024.10",
    "requests>=2.32.4,<3",
    "pillow>=11,<13",
    "matplotlib>=3.10,<4",  # Ships the fonts that rendered_digits draws with.
    # Command line, configuration, reports, signatures.
    "typer>=0.20,<1",
    "rich>=13.9,<16",
    "pydantic>=2.10,<3",
    "pydantic-core>=2.27,<3",
    "annotated-types>=0.7,<1",
    "PyYAML>=6.0.2,<7",
    "jinja2>=3.1.4,<4",
    "markupsafe>=2.1,<4",
    "cryptography>=44",
    # Scheduled retraining: slots from cron expressions as cron reads them.
    "cronsim>=2.6,<3",
    "prometheus-client>=0.21,<1",  # The text file for the node exporter.
    "tzdata",  # Not imported: zoneinfo reads it. Slim images have no time zones of their own.
]

DEV_REQUIRES = [
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",  # The suite on all cores.
    "hypothesis>=6.120",
    "packaging>=24",
    "tfx-bsl>=1.21,<1.22",  # TFMA by itself, the other side of a comparison.
    "ruff>=0.9",
    "mypy>=1.14",
    "import-linter>=2.3",
    "types-PyYAML>=6",
    # Schemas and grammars, offline, that the generated deployment files are held to.
    "kubernetes-validate>=1.34",
    "jsonschema>=4.23",
    "check-jsonschema>=0.34",  # Carries the schema of compose files.
    "promql-parser>=0.7",
    "cyclonedx-python-lib>=11",  # Carries the schemas of bills of materials.
    # Build tools, so that the lock pins them: sdists are built without isolation.
    "setuptools>=77",
    "wheel>=0.45",
]

# In every package, its folders without code included.
PACKAGE_DATA = ["py.typed", "**/*.pbtxt", "**/*.md", "**/*.j2", "**/*.css", "**/*.png"]

ROOMS = ("pipeline", "components", "serving", "data")

setup(
    name="bnpipe",
    version="0.1.0",
    description="A batch-normalised MNIST classifier as a TFX-style pipeline, laptop to cluster",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11,<3.14",
    packages=[f"bnpipe.{name}" for name in find_packages(include=[f"{room}*" for room in ROOMS])],
    package_dir={f"bnpipe.{room}": room for room in ROOMS},
    package_data={"": PACKAGE_DATA},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "dev": DEV_REQUIRES,
        "mlflow": ["mlflow-skinny>=3,<4"],
        # Object stores to publish to; each pins the fsspec of its own release.
        "s3": ["s3fs>=2024.10"],
        "gcs": ["gcsfs>=2024.10"],
    },
    entry_points={"console_scripts": ["bnpipe = bnpipe.pipeline.cli:main"]},
    zip_safe=False,
)
