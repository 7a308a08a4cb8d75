"""What pyproject.toml cannot say.

The README of the package has absolute links, nothing old gets into a wheel, and an sdist, as a wheel by itself, has
the same bytes wherever it is built with the same SOURCE_DATE_EPOCH.
"""

import gzip
import os
import re
import shutil
import tarfile
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

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


class SdistOfOneTime(sdist):
    """Whose files are all of that time, and of nobody, in the order of their names."""

    def make_archive(self, base_name: str, format: str, root_dir=None, base_dir=None, **owner: object) -> str:
        """Pack the folder."""
        time = os.environ.get("SOURCE_DATE_EPOCH")
        if time is None or format != "gztar":
            return super().make_archive(base_name, format, root_dir=root_dir, base_dir=base_dir, **owner)

        def of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime, member.uid, member.gid, member.uname, member.gname = int(time), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            return member

        path, folder = Path(f"{base_name}.tar.gz"), Path(root_dir or ".")
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=int(time)) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for each in sorted([folder / base_dir, *(folder / base_dir).rglob("*")]):
                archive.add(each, each.relative_to(folder).as_posix(), recursive=False, filter=of_nobody)
        return str(path)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    cmdclass={"build_py": BuildAnew, "sdist": SdistOfOneTime},
)
