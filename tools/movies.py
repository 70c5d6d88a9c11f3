"""Writes labelled snippets of film reviews, which the source distribution of vaderSentiment 3.3.2 brings (MIT licence).

``python tools/movies.py vaderSentiment-3.3.2.tar.gz movies.csv``, where ``pip download --no-deps --no-binary :all:
vaderSentiment==3.3.2`` has left the archive. Each snippet has the mean of twenty persons' ratings from -4 to 4; those
with a mean of at least 0.5 in size are taken, ``positive`` above 0 and ``negative`` below.
"""

from __future__ import annotations

import csv
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

INNER: Final = "additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS: Final = "movieReviewSnippets_GroundTruth.txt"
LEAST: Final = 0.5
"""The least size of a mean rating whose sign is a label."""


def snippets(archive: Path) -> Iterator[tuple[str, float]]:
    """Yield each snippet of a source distribution with its mean rating."""
    with tarfile.open(archive) as outer:
        inner = _member(outer, INNER)
    with tarfile.open(fileobj=io.BytesIO(inner)) as resources:
        lines = _member(resources, SNIPPETS).decode("utf-8", errors="replace").splitlines()
    for line in lines:
        _, mean, text = line.split("\t", 2)
        yield text.strip(), float(mean)


def labelled(archive: Path) -> list[tuple[str, str]]:
    """Return the snippets whose rating has a clear sign, each with its label."""
    return [(text, "positive" if mean > 0 else "negative") for text, mean in snippets(archive) if abs(mean) >= LEAST]


def main(archive: Path, target: Path) -> None:
    """Write the table."""
    rows = labelled(archive)
    with target.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("text", "label"), *rows])
    sys.stdout.write(f"{target}: {len(rows)} snippets\n")


def _member(archive: tarfile.TarFile, end: str) -> bytes:
    """Return the content of the file of an archive whose name ends so."""
    name = next(name for name in archive.getnames() if name.endswith(f"/{end}"))
    file = archive.extractfile(name)
    assert file is not None, "it is a file"
    return file.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
