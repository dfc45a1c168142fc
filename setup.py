"""Where the project is at home, and the page of the package. All else is declared in ``setup.cfg``.

A forge says in the environment which repository it builds. Links of the README are relative to the
repository; on the page of a package index they have to be whole.
"""

import os
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
home = f"{server}/{repository}" if server and repository else "https://cleo-email.example"
readme = (ROOT / "README.md").read_text("utf-8")

setup(
    url=home,
    project_urls={
        "Documentation": f"{home}/blob/HEAD/docs/README.md",
        "Changelog": f"{home}/blob/HEAD/CHANGELOG.md",
        "Source": home,
        "Issues": f"{home}/issues",
    },
    # Of a picture the forge has to give the bytes, and not a page around it.
    long_description=re.sub(
        r"(!?\[[^]]*)\]\((?![a-z]+:|#)",
        lambda link: f"{link[1]}]({home}/{'raw' if link[1].startswith('!') else 'blob'}/HEAD/",
        readme,
    ),
)
