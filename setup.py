"""What pyproject.toml cannot say: the README of the package has absolute links, and nothing old gets into a wheel."""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


def readme() -> str:
    """README.md for where no repository lies around it: pictures and pages by their addresses in the repository."""
    repository = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    text = (HERE / "README.md").read_text(encoding="utf-8")
    return re.sub(
        r"(!?)\[([^]]*)\]\((?!https?://)([^)\s]+)\)",
        lambda link: f"{link[1]}[{link[2]}]({repository}/{'raw' if link[1] else 'blob'}/main/{link[3]})",
        text,
    )


class BuildAnew(build_py):
    """Without what an earlier build left in its folder: modules that are gone since would be in the wheel."""

    def run(self) -> None:
        """Build."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(long_description=readme(), long_description_content_type="text/markdown", cmdclass={"build_py": BuildAnew})
