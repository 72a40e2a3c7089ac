"""The agent: watches dermoscopes' folders, answers each capture, keeps and shows every answer."""

from importlib.metadata import version

__version__ = version("dermascan-edge")
