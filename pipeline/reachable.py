"""Says whether `make run` can get its data set, before anything heavy is imported.

`python -m bnpipe.pipeline.reachable [arguments of bnpipe run]` prints nothing when the default data
set is at hand (its archives, a prepared copy, or the network) or when the user chose the data, and
otherwise the one sentence that `make run` shows before and after it falls back to rendered digits.
`bnpipe run` itself never falls back.
"""

from __future__ import annotations

import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from bnpipe.components.example_gen import Params
from bnpipe.data.errors import BnpipeError
from bnpipe.data.sources.checksums import RENDERED, registered_archives
from bnpipe.pipeline.configuration import config
from bnpipe.pipeline.engine.store import Store

TIMEOUT_S = 3.0
_CHOICE = re.compile(r"\bdata\.(dataset|archives)\b")


def notice(arguments: Sequence[str]) -> str | None:
    """Returns the sentence to show when the default data set is out of reach, else None.

    Args:
        arguments: what `bnpipe run` will be given. Those that name a configuration or data leave
            the decision to the user, and so does the configuration itself.
    """
    if any(word.startswith(("-c", "--config")) or _CHOICE.search(word) for word in arguments):
        return None
    try:
        chosen, cache = config.load().data, Store(config.home_from()).cache
    except BnpipeError:
        return None  # `bnpipe run` says what is wrong with it.
    if chosen.dataset != Params().dataset or chosen.archives:
        return None
    prepared = cache / "tfds" / chosen.dataset
    archives = registered_archives(chosen.dataset)[1]
    if any(prepared.glob("*/dataset_info.json")) or not archives or answers(archives[0].url):
        return None
    return (
        f"no network and no archives: {urlsplit(archives[0].url).hostname} does not answer and "
        f"BNPIPE_ARCHIVES is not set; falling back to {RENDERED} (digits drawn from fonts): "
        f"this is NOT {chosen.dataset.upper()}"
    )


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


def main() -> None:
    """Prints the notice, if there is one."""
    sentence = notice(sys.argv[1:])
    if sentence:
        sys.stdout.write(sentence + "\n")


if __name__ == "__main__":
    main()
