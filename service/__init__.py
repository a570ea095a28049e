"""The gRPC process: assemble, score, filter, arbitrate, answer, journal."""

from importlib.metadata import version

VERSION = version("rapport")
