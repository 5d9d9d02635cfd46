"""Says whether `make run` can get its data set, before anything heavy is imported.

`python -m pipeline.reachable [arguments of bnpipe run]` prints nothing when MNIST is at hand (its
archives, a prepared copy, or the network) or when the arguments choose the data themselves, and
otherwise the one sentence that `make run` shows before and after it falls back to rendered digits.
`bnpipe run` itself never falls back.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

DATASET = "mnist"
TIMEOUT_S = 3.0
NOTICE = (
    "no network and no archives: {where} does not answer and BNPIPE_ARCHIVES is not set; "
    "falling back to rendered_digits (digits drawn from fonts), this is NOT MNIST"
)


def registered_url(dataset: str) -> str | None:
    """Returns the first download address that TFDS registers for a data set.

    TFDS's own list is read by its path, because importing TFDS takes a second.

    Args:
        dataset: name of the TFDS builder.

    Returns:
        The address, or None if TFDS is not installed or lists none.
    """
    spec = importlib.util.find_spec("tensorflow_datasets")
    for folder in (spec and spec.submodule_search_locations) or []:
        checksums = Path(folder, "url_checksums", f"{dataset}.txt")
        if checksums.is_file():
            lines = checksums.read_text(encoding="utf-8").splitlines()
            return next((line.split()[0] for line in lines if line.strip()), None)
    return None


def answers(url: str, timeout: float = TIMEOUT_S) -> bool:
    """Tells whether the server of `url` answers a HEAD request, proxies included."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
            return True
    except urllib.error.URLError as error:
        # The server is there, only this interpreter's certificates are not; TFDS brings its own.
        return isinstance(error.reason, ssl.SSLCertVerificationError)
    except OSError:
        return False


def prepared(dataset: str, home: Path) -> bool:
    """Tells whether a run in `home` has left the data set prepared."""
    return any((home / "tfds" / dataset).glob("*/dataset_info.json"))


def notice(arguments: Sequence[str]) -> str | None:
    """Returns the sentence to show when the data set is out of reach, else None.

    Args:
        arguments: what `bnpipe run` will be given.
    """
    chosen = any("data.dataset" in word or "data.archives" in word for word in arguments)
    home = Path(os.environ.get("BNPIPE_HOME") or ".bnpipe")
    if chosen or os.environ.get("BNPIPE_ARCHIVES") or prepared(DATASET, home):
        return None
    url = registered_url(DATASET)
    if url is None or answers(url):
        return None
    return NOTICE.format(where=url.split("/")[2])


def main() -> None:
    """Prints the notice, if there is one."""
    sentence = notice(sys.argv[1:])
    if sentence:
        sys.stdout.write(sentence + "\n")


if __name__ == "__main__":
    main()
